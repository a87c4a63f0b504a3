# CUDA 12 or newer, or the model of it in tests/device_model, on which kernels run as host code: for tests only.

# gradwire_cuda_sources(TARGET files...): .cu files, which round each operation on its own, as hosts do.
function(gradwire_cuda_sources target)
  target_sources(${target} PRIVATE ${ARGN})
  if(GRADWIRE_CUDA STREQUAL "MODEL")  # host code, behind what nvcc would have in front of it
    set_source_files_properties(${ARGN} PROPERTIES LANGUAGE CXX
      COMPILE_OPTIONS "-x;c++;-include;${PROJECT_SOURCE_DIR}/tests/device_model/kernel.hpp")
    return()
  endif()
  target_compile_options(${target} PRIVATE
    "$<$<COMPILE_LANGUAGE:CUDA>:--fmad=false;--expt-relaxed-constexpr;-Xcompiler=-Wall,-Wextra>"
    "$<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<BOOL:${GRADWIRE_WERROR}>>:-Werror=all-warnings;-Xcompiler=-Werror>")
endfunction()

if(GRADWIRE_CUDA STREQUAL "MODEL")
  if(GRADWIRE_INSTALL)
    message(STATUS "gradwire: GRADWIRE_CUDA=MODEL is for tests: nothing can be installed")
    set(GRADWIRE_INSTALL OFF)
  endif()
  find_package(Boost REQUIRED COMPONENTS context)
  add_compile_definitions(GRADWIRE_DEVICE_MODEL)  # everywhere, as headers differ
  add_library(gradwire_cuda_runtime INTERFACE)
  target_include_directories(gradwire_cuda_runtime SYSTEM INTERFACE ${PROJECT_SOURCE_DIR}/tests/device_model)
  target_include_directories(gradwire_cuda_runtime INTERFACE ${PROJECT_SOURCE_DIR}/tests)
  add_library(gradwire::cuda_runtime ALIAS gradwire_cuda_runtime)
  set(GRADWIRE_DEVICE_MODEL_SOURCES arena.cpp grid.cpp memory.cpp stream.cpp)  # in tests/device_model, for the library
  set(GRADWIRE_HAVE_CUDA ON)
  set(GRADWIRE_CUDA_REPORT "a model on the host: for tests, on no device")
  return()
endif()
include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  unset(CMAKE_CUDA_COMPILER CACHE)  # the next configure looks again
  gradwire_missing(GRADWIRE_CUDA "a working nvcc" "install the CUDA toolkit and put nvcc on the PATH or in CUDACXX; \
where it is there, CMakeFiles/CMakeError.log says why it cannot compile")
  return()
endif()
if(GRADWIRE_CCACHE_PROGRAM AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${GRADWIRE_CCACHE_PROGRAM})
endif()
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS})
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90)  # and PTX of the last
  execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --version OUTPUT_VARIABLE nvcc ERROR_QUIET)
  if(nvcc MATCHES "release ([0-9.]+)" AND NOT CMAKE_MATCH_1 VERSION_LESS 12.8)
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 100-real 120)
  endif()
endif()
enable_language(CUDA)
if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12)
  gradwire_missing(GRADWIRE_CUDA "nvcc 12 or newer (this is ${CMAKE_CUDA_COMPILER_VERSION}, which has no C++20)"
    "install a newer CUDA toolkit")
  return()
endif()
if(NOT DEFINED CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know that nvcc speaks C++20
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
endif()
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_EXTENSIONS OFF)
foreach(architecture IN LISTS CMAKE_CUDA_ARCHITECTURES)
  if(architecture MATCHES "^([0-9]+)" AND CMAKE_MATCH_1 LESS 80)
    message(FATAL_ERROR "gradwire: CUDA architecture ${architecture}: device code needs compute capability 8.0 or newer: set "
      "CMAKE_CUDA_ARCHITECTURES, or GRADWIRE_CUDA=OFF")
  endif()
endforeach()
find_package(CUDAToolkit REQUIRED)
set(GRADWIRE_HAVE_CUDA ON)
add_library(gradwire_cuda_runtime INTERFACE)
target_link_libraries(gradwire_cuda_runtime INTERFACE CUDA::cudart_static)
add_library(gradwire::cuda_runtime ALIAS gradwire_cuda_runtime)
list(JOIN CMAKE_CUDA_ARCHITECTURES " " architectures)
set(GRADWIRE_CUDA_REPORT "nvcc ${CMAKE_CUDA_COMPILER_VERSION}, for ${architectures}")
