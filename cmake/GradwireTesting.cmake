# Test registration: gradwire_add_test for one process, gradwire_add_mpi_test for several.

find_package(GTest REQUIRED)
include(GoogleTest)

set(GRADWIRE_TEST_SUPPORT ${PROJECT_SOURCE_DIR}/tests/support)
set(GRADWIRE_TEST_ENVIRONMENT
  "TSAN_OPTIONS=suppressions=${GRADWIRE_TEST_SUPPORT}/tsan.supp:halt_on_error=1:second_deadlock_stack=1"
  "UBSAN_OPTIONS=print_stacktrace=1")

# gradwire_test_support(NAME SOURCES ... LINKS ...): a library of helpers; one with a main() yields to the test's own.
function(gradwire_test_support name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINKS" ${ARGN})
  list(TRANSFORM arg_SOURCES PREPEND ${GRADWIRE_TEST_SUPPORT}/)
  add_library(${name} STATIC ${arg_SOURCES})
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/tests)
  target_link_libraries(${name} PUBLIC gradwire GTest::gtest GTest::gmock fmt::fmt hwy::hwy ${arg_LINKS}
    PRIVATE gradwire_flags)
endfunction()

gradwire_test_support(gradwire_test_support SOURCES allocations.cpp spawn.cpp watchdog.cpp)
gradwire_test_support(gradwire_test_main SOURCES test_main.cpp LINKS gradwire_test_support)

# gradwire_test_binary(NAME MAIN SOURCES ... LINKS ...): shared by the two registrations below.
function(gradwire_test_binary name main)
  cmake_parse_arguments(arg "" "" "SOURCES;LINKS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE ${main} gradwire_flags ${arg_LINKS})
  target_link_options(${name} PRIVATE -rdynamic)  # names in the watchdog's stacks
endfunction()

# gradwire_suites(NAME ... [LINKS ...]): NAME.cpp of this folder, compiled once for all binaries that name it in LINKS.
function(gradwire_suites)
  cmake_parse_arguments(arg "" "" "LINKS" ${ARGN})
  foreach(name IN LISTS arg_UNPARSED_ARGUMENTS)
    add_library(${name} OBJECT ${name}.cpp)
    target_link_libraries(${name} PRIVATE gradwire_test_support gradwire_flags ${arg_LINKS})
  endforeach()
endfunction()

# gradwire_add_test(NAME SOURCES ... [LINKS ...] [TIMEOUT seconds]): a gtest binary with a main(); one test for CTest,
# which starts those with a timeout of their own, the long ones, first.
function(gradwire_add_test name)
  cmake_parse_arguments(arg "" "TIMEOUT" "SOURCES;LINKS" ${ARGN})
  gradwire_test_binary(${name} gradwire_test_main SOURCES ${arg_SOURCES} LINKS ${arg_LINKS})
  set(cost 0)
  if(arg_TIMEOUT)
    set(cost ${arg_TIMEOUT})
  else()
    set(arg_TIMEOUT 600)
  endif()
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES COST ${cost} TIMEOUT ${arg_TIMEOUT} ENVIRONMENT "${GRADWIRE_TEST_ENVIRONMENT}")
endfunction()

if(NOT GRADWIRE_HAVE_MPI)
  return()
endif()

gradwire_test_support(gradwire_test_mpi_main SOURCES mpi_main.cpp LINKS gradwire_test_support gradwire_mpi MPI::MPI_CXX)

# What this launcher needs so that several ranks share the few cores of a test machine, also as root in a container.
execute_process(COMMAND ${MPIEXEC_EXECUTABLE} --version OUTPUT_VARIABLE launcher ERROR_VARIABLE launcher)
set(GRADWIRE_MPIEXEC_FLAGS "")
set(GRADWIRE_MPI_ENVIRONMENT ${GRADWIRE_TEST_ENVIRONMENT}
  "ASAN_OPTIONS=detect_leaks=0")  # MPI libraries leak at exit; the local transport runs the same suites with leak checks
if(launcher MATCHES "Open MPI|OpenRTE|PRRTE")
  set(GRADWIRE_MPIEXEC_FLAGS --oversubscribe --bind-to none)
  list(APPEND GRADWIRE_MPI_ENVIRONMENT OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_mpi_yield_when_idle=1
    OMPI_MCA_btl_base_warn_component_unused=0)
endif()

# gradwire_add_mpi_test(NAME SOURCES ... [LINKS ...] [TIMEOUT seconds] RANKS 1 2 3 4): one binary, and one CTest entry
# NAME_<ranks> with the label mpi for each number of ranks.
function(gradwire_add_mpi_test name)
  cmake_parse_arguments(arg "" "TIMEOUT" "SOURCES;LINKS;RANKS" ${ARGN})
  if(NOT arg_RANKS)
    message(FATAL_ERROR "gradwire_add_mpi_test(${name}): RANKS is missing, e.g. RANKS 1 2 3 4")
  endif()
  gradwire_test_binary(${name} gradwire_test_mpi_main SOURCES ${arg_SOURCES} LINKS ${arg_LINKS})
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 600)
  endif()
  foreach(ranks IN LISTS arg_RANKS)
    gradwire_mpi_command(command ${ranks} $<TARGET_FILE:${name}>)
    add_test(NAME ${name}_${ranks} COMMAND ${command})
    set_tests_properties(${name}_${ranks} PROPERTIES LABELS mpi PROCESSORS ${ranks} TIMEOUT ${arg_TIMEOUT}
      ENVIRONMENT "${GRADWIRE_MPI_ENVIRONMENT}")
  endforeach()
endfunction()

# gradwire_mpi_command(OUT ranks program arguments...): the command line that runs `program` on so many ranks.
function(gradwire_mpi_command out ranks)
  set(${out} ${MPIEXEC_EXECUTABLE} ${MPIEXEC_NUMPROC_FLAG} ${ranks} ${GRADWIRE_MPIEXEC_FLAGS} ${MPIEXEC_PREFLAGS}
    ${ARGN} ${MPIEXEC_POSTFLAGS} PARENT_SCOPE)
endfunction()
