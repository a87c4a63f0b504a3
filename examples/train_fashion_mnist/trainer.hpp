#pragma once
#include "dataset.hpp"
#include "options.hpp"
#include "summary.hpp"

#include "gradwire/transport.hpp"

namespace demo {

/// Trains the network on this rank's share of `dataset`, in step with the other ranks; collective. The summary is
/// complete on every rank. Throws gradwire::Error, Errc::rank_mismatch also when the ranks' weights differ at the end.
[[nodiscard]] Summary train(const gradwire::Communicator& comm, const Dataset& dataset, const Options& options);

}  // namespace demo
