# SPDX-License-Identifier: Apache-2.0
# What `cmake --install` leaves: headers, libgmem.so with the backends beside it, the Python module, the licence, and
# the two ways to be found, a CMake package and gmem.pc. Both find the rest relative to themselves, as does the module,
# so the whole may be moved. `cpack -G DEB` makes Debian packages of it, one a component (cmake/packages.cmake).

include(CMakePackageConfigHelpers)

get_property(backends GLOBAL PROPERTY gmem_backends)
set(cmake_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/gmem)
set(pkgconfig_dir ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# Where Debian's Python looks, for a prefix of /usr; elsewhere PYTHONPATH names it.
set(GMEM_PYTHON_DIR lib/python3/dist-packages CACHE STRING "Folder for the Python module, below the install prefix")

install(TARGETS gmem gmem-jemalloc EXPORT gmemTargets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT library NAMELINK_COMPONENT development)
foreach(backend IN LISTS backends)
  string(REPLACE gmem- "" component ${backend})
  if(component STREQUAL sim)
    set(component library)
  endif()
  install(TARGETS ${backend} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT ${component})
endforeach()
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/gmem DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT development
        FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp")
install(DIRECTORY ${PROJECT_SOURCE_DIR}/python/gmem DESTINATION ${GMEM_PYTHON_DIR} COMPONENT python
        FILES_MATCHING PATTERN "*.py")
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE ${PROJECT_SOURCE_DIR}/CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR}
        COMPONENT library)

# jemalloc is part of libgmem-jemalloc.so, and its licence of what is installed.
find_file(GMEM_JEMALLOC_LICENCE copyright PATHS /usr/share/doc/libjemalloc-dev NO_DEFAULT_PATH)
mark_as_advanced(GMEM_JEMALLOC_LICENCE)
if(GMEM_JEMALLOC_LICENCE)
  install(FILES ${GMEM_JEMALLOC_LICENCE} DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT library
          RENAME LICENSE.jemalloc)
endif()

install(EXPORT gmemTargets NAMESPACE gmem:: DESTINATION ${cmake_package_dir} COMPONENT development)
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/gmemConfig.cmake.in ${CMAKE_BINARY_DIR}/gmemConfig.cmake
                              INSTALL_DESTINATION ${cmake_package_dir}
                              NO_SET_AND_CHECK_MACRO)
# Before 1.0 a minor version may break programs.
write_basic_package_version_file(${CMAKE_BINARY_DIR}/gmemConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/gmemConfig.cmake ${CMAKE_BINARY_DIR}/gmemConfigVersion.cmake
        DESTINATION ${cmake_package_dir} COMPONENT development)

# gmem.pc: directories that the packager gave as absolute stay so, the others are relative to where the file lies.
foreach(kind IN ITEMS LIBDIR INCLUDEDIR)
  cmake_path(IS_ABSOLUTE CMAKE_INSTALL_${kind} is_absolute)
  if(is_absolute)
    set(pkgconfig_${kind} ${CMAKE_INSTALL_${kind}})
  else()
    set(pkgconfig_${kind} "\${prefix}/${CMAKE_INSTALL_${kind}}")
  endif()
endforeach()
cmake_path(IS_ABSOLUTE CMAKE_INSTALL_LIBDIR is_absolute)
if(is_absolute)
  set(pkgconfig_prefix ${CMAKE_INSTALL_PREFIX})
else()
  file(RELATIVE_PATH to_prefix /prefix/${pkgconfig_dir} /prefix)
  string(REGEX REPLACE "/$" "" to_prefix "${to_prefix}")
  set(pkgconfig_prefix "\${pcfiledir}/${to_prefix}")
endif()
configure_file(${PROJECT_SOURCE_DIR}/cmake/gmem.pc.in ${CMAKE_BINARY_DIR}/gmem.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/gmem.pc DESTINATION ${pkgconfig_dir} COMPONENT development)

include(cmake/packages.cmake)
