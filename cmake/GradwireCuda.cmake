# CUDA 12 or newer: for kernels that no part of the library uses yet, and for checks of the public headers.

include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  gradwire_missing(GRADWIRE_CUDA "a working nvcc" "install the CUDA toolkit and put nvcc on the PATH or in CUDACXX")
  return()
endif()
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 100-real 120)  # and PTX of the last
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
find_package(CUDAToolkit REQUIRED)
set(GRADWIRE_HAVE_CUDA ON)
set(GRADWIRE_CUDA_REPORT
  "nvcc ${CMAKE_CUDA_COMPILER_VERSION}: kernels of the quantisers and their tests; the library takes no device memory yet")
