#pragma once
/// \file Everything gradwire promises, but for the backends' own factories (gradwire/mpi.hpp).
#include "gradwire/allreduce.hpp"
#include "gradwire/buffer.hpp"
#include "gradwire/compressor.hpp"
#include "gradwire/error.hpp"
#include "gradwire/feedback.hpp"
#include "gradwire/hook.hpp"
#include "gradwire/optimizer.hpp"
#include "gradwire/sharded.hpp"
#include "gradwire/transport.hpp"
#include "gradwire/types.hpp"
#include "gradwire/version.hpp"
#include "gradwire/work.hpp"
