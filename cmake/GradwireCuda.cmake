# CUDA 12 or newer, for checks of the public headers: there is no device code yet.

include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  gradwire_missing(GRADWIRE_CUDA "a working nvcc" "install the CUDA toolkit and put nvcc on the PATH or in CUDACXX")
  return()
endif()
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 75)
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
set(GRADWIRE_HAVE_CUDA ON)
set(GRADWIRE_CUDA_REPORT
  "nvcc ${CMAKE_CUDA_COMPILER_VERSION}, only compiles a check of the public headers: there is no device code yet")
