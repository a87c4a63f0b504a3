# cmake --install: headers, libraries, CMake package (also usable from the build tree) and pkg-config files.

include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/gradwire)

install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/gradwire DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  FILES_MATCHING PATTERN "*.hpp" PATTERN mpi.hpp EXCLUDE)
install(FILES ${PROJECT_BINARY_DIR}/include/gradwire/version.hpp DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/gradwire)
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

# One export set a component: asking for none of them asks for none of their dependencies.
install(TARGETS gradwire EXPORT gradwireTargets)
install(EXPORT gradwireTargets NAMESPACE gradwire:: DESTINATION ${package_dir})
export(EXPORT gradwireTargets NAMESPACE gradwire:: FILE ${PROJECT_BINARY_DIR}/gradwireTargets.cmake)
if(GRADWIRE_HAVE_MPI)
  install(FILES ${PROJECT_SOURCE_DIR}/include/gradwire/mpi.hpp DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/gradwire)
  install(TARGETS gradwire_mpi EXPORT gradwire-mpiTargets)
  install(EXPORT gradwire-mpiTargets NAMESPACE gradwire:: DESTINATION ${package_dir})
  export(EXPORT gradwire-mpiTargets NAMESPACE gradwire:: FILE ${PROJECT_BINARY_DIR}/gradwire-mpiTargets.cmake)
endif()

# A static gradwire leaves its own dependencies for the program to link; a shared one has them linked already.
set(GRADWIRE_STATIC ON)
if(BUILD_SHARED_LIBS)
  set(GRADWIRE_STATIC OFF)
endif()
configure_package_config_file(cmake/gradwireConfig.cmake.in ${PROJECT_BINARY_DIR}/gradwireConfig.cmake
  INSTALL_DESTINATION ${package_dir} NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/gradwireConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/gradwireConfig.cmake ${PROJECT_BINARY_DIR}/gradwireConfigVersion.cmake
  DESTINATION ${package_dir})

# gradwire_pkg_config(NAME): the prefix is found from where the .pc file lies, so that the tree can be moved.
function(gradwire_pkg_config name)
  cmake_path(ABSOLUTE_PATH CMAKE_INSTALL_LIBDIR BASE_DIRECTORY ${CMAKE_INSTALL_PREFIX} OUTPUT_VARIABLE pc_dir)
  cmake_path(APPEND pc_dir pkgconfig)
  cmake_path(RELATIVE_PATH CMAKE_INSTALL_PREFIX BASE_DIRECTORY ${pc_dir} OUTPUT_VARIABLE up)
  set(PC_PREFIX "\${pcfiledir}/${up}")
  foreach(dir LIBDIR INCLUDEDIR)
    set(PC_${dir} "\${prefix}/${CMAKE_INSTALL_${dir}}")
    if(IS_ABSOLUTE "${CMAKE_INSTALL_${dir}}")
      set(PC_${dir} "${CMAKE_INSTALL_${dir}}")
    endif()
  endforeach()
  configure_file(${PROJECT_SOURCE_DIR}/cmake/${name}.pc.in ${PROJECT_BINARY_DIR}/${name}.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/${name}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endfunction()

set(PC_REQUIRES "")
set(PC_EXTRA_LIBS "")
set(PC_MPI_LIBS "")
if(GRADWIRE_STATIC)
  set(PC_REQUIRES "spdlog, fmt, libhwy, libzstd")
  set(PC_EXTRA_LIBS "-pthread")
  list(JOIN MPI_CXX_LIBRARIES " " PC_MPI_LIBS)
endif()
gradwire_pkg_config(gradwire)
if(GRADWIRE_HAVE_MPI)
  gradwire_pkg_config(gradwire-mpi)
endif()
