# SPDX-License-Identifier: Apache-2.0
# gmem_require_package(NAME APT_PACKAGE): find_package, or a sentence that names the Debian package to install.

macro(gmem_require_package name apt_package)
  find_package(${name} QUIET)
  if(NOT ${name}_FOUND)
    message(FATAL_ERROR
            "${name} was not found: install it with `apt-get install ${apt_package}`, then configure again.")
  endif()
endmacro()
