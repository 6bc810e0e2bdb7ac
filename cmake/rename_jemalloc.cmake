# SPDX-License-Identifier: Apache-2.0
# cmake -D FROM=ARCHIVE -D TO=ARCHIVE -D PREFIX=NAME_ -D AR= -D NM= -D OBJCOPY= -P rename_jemalloc.cmake: a copy in
# which every name that the archive defines has the prefix, without its C++ operators. What it asks the environment and
# the file system for its configuration goes to PREFIXsetting and PREFIXlink, what it has done at forks to PREFIXatfork.

get_filename_component(folder ${TO} DIRECTORY)
file(MAKE_DIRECTORY ${folder})
file(COPY_FILE ${FROM} ${TO}.new)

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE failed OUTPUT_VARIABLE output ERROR_VARIABLE words)
  if(NOT failed STREQUAL "0")
    message(FATAL_ERROR "${ARGN}: ${failed}: ${words}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

run(${AR} d ${TO}.new jemalloc_cpp.pic.o jemalloc_cpp.o)
run(${NM} --extern-only --defined-only --format=posix ${TO}.new)
string(REGEX MATCHALL "[^\n]+ [A-Za-z] [^\n]*" symbols "${output}")
set(list "secure_getenv ${PREFIX}setting\nreadlink ${PREFIX}link\npthread_atfork ${PREFIX}atfork\n")
foreach(line IN LISTS symbols)
  string(REGEX REPLACE " .*" "" name "${line}")
  string(APPEND list "${name} ${PREFIX}${name}\n")
endforeach()
file(WRITE ${TO}.symbols "${list}")
run(${OBJCOPY} --redefine-syms=${TO}.symbols ${TO}.new)
file(RENAME ${TO}.new ${TO})
