// With umbrella_two.cpp: the headers define nothing twice, and types with vague linkage are the same in both.
#include <gradwire/gradwire.hpp>
#include <gradwire/mpi.hpp>

gradwire::Buffer make_buffer(std::size_t bytes);

int main() {
  const gradwire::Buffer buffer = make_buffer(64);
  buffer.fill_zero();
  return buffer.size() == 64 && buffer.bytes().space == gradwire::Space::host ? 0 : 1;
}
