#include "transfer_buffer.hpp"

#include <exception>

namespace gradwire::tools {

TransferBuffer::~TransferBuffer() {
  if (std::uncaught_exceptions() > 0) buffer_.abandon();
}

}  // namespace gradwire::tools
