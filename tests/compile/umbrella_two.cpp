#include <gradwire/gradwire.hpp>
#include <gradwire/mpi.hpp>

gradwire::Buffer make_buffer(std::size_t bytes) { return gradwire::Buffer(bytes); }
