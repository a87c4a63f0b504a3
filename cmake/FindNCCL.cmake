# Finds NCCL: the target NCCL::nccl, NCCL_FOUND, NCCL_VERSION. In this order: NCCL's own CMake package, NCCL_ROOT, pkg-config's
# folders, those of CUDA, and the folder of the Python wheel nvidia-nccl.

find_package(NCCL CONFIG QUIET)
if(TARGET NCCL::nccl)
  return()
endif()

find_package(PkgConfig QUIET)
if(PKG_CONFIG_FOUND)
  pkg_check_modules(NCCL_PC QUIET nccl)
endif()
find_program(NCCL_PYTHON NAMES python3 python)
mark_as_advanced(NCCL_PYTHON)
set(NCCL_WHEEL "")
if(NCCL_PYTHON)
  execute_process(
    COMMAND ${NCCL_PYTHON} -c "import importlib.util as u; s = u.find_spec('nvidia.nccl'); print(list(s.submodule_search_locations)[0])"
    OUTPUT_VARIABLE NCCL_WHEEL OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${NCCL_PC_INCLUDE_DIRS} ENV CUDA_HOME PATHS /usr/local/cuda ${NCCL_WHEEL}
  PATH_SUFFIXES include)
find_library(NCCL_LIBRARY NAMES nccl libnccl.so.2  # a wheel has no name without the version
  HINTS ${NCCL_PC_LIBRARY_DIRS} ENV CUDA_HOME PATHS /usr/local/cuda ${NCCL_WHEEL} PATH_SUFFIXES lib64 lib)
mark_as_advanced(NCCL_INCLUDE_DIR NCCL_LIBRARY)
if(NCCL_INCLUDE_DIR)
  file(STRINGS ${NCCL_INCLUDE_DIR}/nccl.h NCCL_VERSION REGEX "^#define NCCL_(MAJOR|MINOR|PATCH) +[0-9]+")
  list(TRANSFORM NCCL_VERSION REPLACE "^#define NCCL_[A-Z]+ +([0-9]+).*" "\\1")
  list(JOIN NCCL_VERSION "." NCCL_VERSION)
endif()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(NCCL REQUIRED_VARS NCCL_LIBRARY NCCL_INCLUDE_DIR VERSION_VAR NCCL_VERSION)
if(NCCL_FOUND)
  add_library(NCCL::nccl UNKNOWN IMPORTED)
  set_target_properties(NCCL::nccl PROPERTIES
    IMPORTED_LOCATION ${NCCL_LIBRARY} INTERFACE_INCLUDE_DIRECTORIES ${NCCL_INCLUDE_DIR})
endif()
