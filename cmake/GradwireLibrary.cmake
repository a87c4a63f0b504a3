# gradwire::gradwire, gradwire::mpi and gradwire::nccl out of the layers' objects: static, or shared with BUILD_SHARED_LIBS.

set(GRADWIRE_LAYERS base compress compress_device transport collectives plan train)
set(GRADWIRE_COMPONENTS "")

# A version below 1 promises its ABI to the minor version only.
set(GRADWIRE_SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})

add_library(gradwire)
add_library(gradwire::gradwire ALIAS gradwire)
foreach(layer IN LISTS GRADWIRE_LAYERS)
  target_sources(gradwire PRIVATE $<TARGET_OBJECTS:gradwire_${layer}>)
endforeach()
target_include_directories(gradwire PUBLIC
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<BUILD_INTERFACE:${PROJECT_BINARY_DIR}/include>
  $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_compile_features(gradwire PUBLIC cxx_std_20)
target_link_libraries(gradwire PRIVATE fmt::fmt spdlog::spdlog hwy::hwy zstd::libzstd_shared Threads::Threads)
if(GRADWIRE_CUDA STREQUAL "MODEL")
  target_link_libraries(gradwire PRIVATE Boost::context)
elseif(GRADWIRE_HAVE_CUDA)
  target_link_libraries(gradwire PRIVATE CUDA::cudart_static)
endif()
set_target_properties(gradwire PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${GRADWIRE_SOVERSION})

if(GRADWIRE_HAVE_MPI)
  add_library(gradwire_mpi)
  add_library(gradwire::mpi ALIAS gradwire_mpi)
  target_sources(gradwire_mpi PRIVATE $<TARGET_OBJECTS:gradwire_mpi_objects>)
  target_link_libraries(gradwire_mpi PUBLIC gradwire PRIVATE MPI::MPI_CXX fmt::fmt)
  set_target_properties(gradwire_mpi PROPERTIES
    EXPORT_NAME mpi VERSION ${PROJECT_VERSION} SOVERSION ${GRADWIRE_SOVERSION})
  list(APPEND GRADWIRE_COMPONENTS mpi)
endif()
if(GRADWIRE_HAVE_NCCL)
  add_library(gradwire_nccl)
  add_library(gradwire::nccl ALIAS gradwire_nccl)
  target_sources(gradwire_nccl PRIVATE $<TARGET_OBJECTS:gradwire_nccl_objects>)
  target_link_libraries(gradwire_nccl PUBLIC gradwire PRIVATE fmt::fmt Threads::Threads)
  if(NOT GRADWIRE_CUDA STREQUAL "MODEL")
    target_link_libraries(gradwire_nccl PRIVATE NCCL::nccl CUDA::cudart_static)
  endif()
  if(BUILD_SHARED_LIBS)  # the shared gradwire hides its own
    target_sources(gradwire_nccl PRIVATE src/base/cuda.cpp src/base/device_cuda.cpp)
    target_include_directories(gradwire_nccl PRIVATE src)
  endif()
  set_target_properties(gradwire_nccl PROPERTIES
    EXPORT_NAME nccl VERSION ${PROJECT_VERSION} SOVERSION ${GRADWIRE_SOVERSION})
  list(APPEND GRADWIRE_COMPONENTS nccl)
endif()
if(GRADWIRE_SANITIZE)
  foreach(library gradwire gradwire_mpi gradwire_nccl)
    if(TARGET ${library})
      target_link_options(${library} PRIVATE -fsanitize=${GRADWIRE_SANITIZE})
    endif()
  endforeach()
endif()
