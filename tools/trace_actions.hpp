#pragma once
#include <string_view>

#include "command.hpp"

namespace gradwire::tools {

inline constexpr std::string_view kTraceHelp =
    "Usage: gradwire trace info FILE\n"
    "       gradwire trace import --out FILE --reference SPEC [--step N] --in GRADIENT.npy ...\n"
    "       gradwire trace export FILE --out DIR [--step N]\n"
    "       gradwire trace record --out FILE -- COMMAND ARGUMENTS ...\n\n"
    "A trace holds gradients of a run, layer by layer (docs/trace-format.md); gradwire plan plans on it.\n"
    "info says what is in one, import makes one of arrays, export makes arrays and tables (.json) of one.\n\n"
    "record runs a command with GRADWIRE_TRACE=FILE in its environment: its hook writes what planning measures, on\n"
    "rank 0. The exit code is the command's, or 1 where that is 0 and no trace was written. Of MPI jobs, start the\n"
    "launcher: record ... -- mpirun -n 4 PROGRAM. Open MPI's hands the environment to ranks on its own machine; where\n"
    "rank 0 may run on another one, pass it on and name a file that is to be there:\n"
    "mpirun -x GRADWIRE_TRACE .... MPICH's mpiexec passes it on by itself.\n\n";

int trace_record(const Arguments& arguments);

}  // namespace gradwire::tools
