# Flags as interface targets, and one function that makes a layer.

add_library(gradwire_flags INTERFACE)
target_compile_options(gradwire_flags INTERFACE
  -Wall -Wextra -Wconversion -Wshadow $<$<BOOL:${GRADWIRE_WERROR}>:-Werror>
  -ffp-contract=off)  # frames are bit-identical on every instruction set: no fused multiply-add behind our back
if(GRADWIRE_SANITIZE)
  target_compile_options(gradwire_flags INTERFACE -fsanitize=${GRADWIRE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(gradwire_flags INTERFACE -fsanitize=${GRADWIRE_SANITIZE})
endif()

# gradwire_layer(NAME SOURCES ... LINKS ...): one box of docs/design.md as an object library. A layer may link only
# layers to its left.
function(gradwire_layer name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINKS" ${ARGN})
  add_library(gradwire_${name} OBJECT ${arg_SOURCES})
  target_include_directories(gradwire_${name} PUBLIC
    ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src ${PROJECT_BINARY_DIR}/include)
  target_link_libraries(gradwire_${name} PUBLIC ${arg_LINKS} PRIVATE gradwire_flags)
endfunction()
