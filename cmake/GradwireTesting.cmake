# Test registration: gradwire_add_test for one process, gradwire_add_mpi_test for several.

find_package(GTest REQUIRED)
include(GoogleTest)

# gradwire_add_test(NAME SOURCES ... [LINKS ...]): a gtest binary; CTest sees it as one test.
function(gradwire_add_test name)
  cmake_parse_arguments(arg "" "TIMEOUT" "SOURCES;LINKS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/tests)
  target_link_libraries(${name} PRIVATE gradwire gradwire_flags fmt::fmt hwy::hwy GTest::gtest GTest::gmock ${arg_LINKS})
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 600)
  endif()
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${arg_TIMEOUT})
endfunction()
