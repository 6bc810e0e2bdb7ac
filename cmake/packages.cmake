# SPDX-License-Identifier: Apache-2.0
# `cpack -G DEB` in a build folder: libgmem0 (the library and the simulated device), libgmem0-cuda and libgmem0-hip (the
# backends that were built: each has its vendor's dependencies), libgmem-dev and python3-gmem. dpkg-shlibdeps, of
# Debian's dpkg-dev, finds what they depend on.

set(library_package libgmem${PROJECT_VERSION_MAJOR})
set(CPACK_PACKAGE_NAME gmem)
set(CPACK_PACKAGE_VENDOR "the gmem authors")
set(CPACK_PACKAGE_CONTACT "the gmem authors <gmem@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
set(CPACK_STRIP_FILES ON)
set(CPACK_VERBATIM_VARIABLES ON)

set(CPACK_GENERATOR DEB)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)  # and the trigger by which ldconfig runs

set(CPACK_COMPONENTS_ALL library development python)
set(CPACK_DEBIAN_LIBRARY_PACKAGE_NAME ${library_package})
set(CPACK_COMPONENT_LIBRARY_DESCRIPTION
    "gmem, unified virtual memory for GPUs in user space: the library, with the backend that simulates devices.")

set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME libgmem-dev)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS "${library_package} (= ${PROJECT_VERSION})")
set(CPACK_COMPONENT_DEVELOPMENT_DESCRIPTION "gmem: headers for C and C++, for CMake and for pkg-config.")

set(CPACK_DEBIAN_PYTHON_PACKAGE_NAME python3-gmem)
set(CPACK_DEBIAN_PYTHON_PACKAGE_SECTION python)
set(CPACK_DEBIAN_PYTHON_PACKAGE_ARCHITECTURE all)
set(CPACK_DEBIAN_PYTHON_PACKAGE_DEPENDS "python3, ${library_package} (>= ${PROJECT_VERSION})")
set(CPACK_DEBIAN_PYTHON_PACKAGE_RECOMMENDS python3-numpy)
set(CPACK_COMPONENT_PYTHON_DESCRIPTION "gmem for Python: numpy arrays that CPU and GPUs use through one pointer.")

foreach(vendor IN ITEMS cuda hip)
  if(TARGET gmem-${vendor})
    list(APPEND CPACK_COMPONENTS_ALL ${vendor})
    string(TOUPPER ${vendor} VENDOR)
    set(CPACK_DEBIAN_${VENDOR}_PACKAGE_NAME ${library_package}-${vendor})
    set(CPACK_DEBIAN_${VENDOR}_PACKAGE_DEPENDS "${library_package} (= ${PROJECT_VERSION})")
    set(CPACK_COMPONENT_${VENDOR}_DESCRIPTION "gmem: the backend for ${VENDOR} devices, loaded where it is installed.")
  endif()
endforeach()

include(CPack)
