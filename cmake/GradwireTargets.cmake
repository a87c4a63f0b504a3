# Flags as interface targets, and one function that makes a layer.

add_library(gradwire_flags INTERFACE)
target_compile_options(gradwire_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:
  -Wall -Wextra -Wconversion -Wshadow $<$<BOOL:${GRADWIRE_WERROR}>:-Werror>
  $<$<AND:$<CXX_COMPILER_ID:GNU>,$<VERSION_LESS:$<CXX_COMPILER_VERSION>,13>>:-Wno-restrict>  # false in std::string: GCC bug 105651
  -ffp-contract=off>)  # frames are bit-identical on every instruction set: no fused multiply-add behind our back
if(GRADWIRE_SANITIZE)
  target_compile_options(gradwire_flags INTERFACE
    -fsanitize=${GRADWIRE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(gradwire_flags INTERFACE -fsanitize=${GRADWIRE_SANITIZE})
endif()

if(GRADWIRE_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  find_program(GRADWIRE_CCACHE_PROGRAM ccache)
  mark_as_advanced(GRADWIRE_CCACHE_PROGRAM)
  if(GRADWIRE_CCACHE_PROGRAM)
    set(CMAKE_CXX_COMPILER_LAUNCHER ${GRADWIRE_CCACHE_PROGRAM})
  endif()
endif()

# The arrows of docs/design.md: what stands to the left of each layer.
set(GRADWIRE_LEFT_OF_base "")
set(GRADWIRE_LEFT_OF_compress base)
set(GRADWIRE_LEFT_OF_compress_device base)
set(GRADWIRE_LEFT_OF_transport base)
set(GRADWIRE_LEFT_OF_mpi_objects base transport)
set(GRADWIRE_LEFT_OF_nccl_objects base transport)
set(GRADWIRE_LEFT_OF_collectives base compress compress_device transport)
set(GRADWIRE_LEFT_OF_plan base compress)
set(GRADWIRE_LEFT_OF_train base compress transport collectives plan)

# gradwire_layer(NAME SOURCES ... LINKS ...): one box of docs/design.md as an object library.
function(gradwire_layer name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINKS" ${ARGN})
  foreach(link IN LISTS arg_LINKS)
    if(link MATCHES "^gradwire_(.+)$" AND NOT CMAKE_MATCH_1 IN_LIST GRADWIRE_LEFT_OF_${name})
      message(FATAL_ERROR "gradwire: layer ${name} may not link ${CMAKE_MATCH_1}, "
        "which is not to its left in docs/design.md (to its left: ${GRADWIRE_LEFT_OF_${name}})")
    endif()
  endforeach()
  add_library(gradwire_${name} OBJECT ${arg_SOURCES})
  target_include_directories(gradwire_${name} PUBLIC
    ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src ${PROJECT_BINARY_DIR}/include)
  target_link_libraries(gradwire_${name} PUBLIC ${arg_LINKS} PRIVATE gradwire_flags)
endfunction()

# gradwire_kernel_targets(TARGET): which instruction sets its kernels are compiled for. SSSE3 without SSE4 is of no
# interest; vectors of a length unknown to the compiler cannot be members of classes.
function(gradwire_kernel_targets target)
  target_compile_definitions(${target} PRIVATE HWY_WANT_AVX3_DL
    "HWY_DISABLED_TARGETS=(HWY_SSSE3|HWY_SVE|HWY_SVE2|HWY_SVE_256|HWY_SVE2_128|HWY_RVV)")
endfunction()
