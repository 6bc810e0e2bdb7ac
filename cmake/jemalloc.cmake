# SPDX-License-Identifier: Apache-2.0
# Debian's jemalloc as the engine for small objects (runtime/malloc/object_engine.h): all of its names get a prefix, so
# that neither the program's malloc nor a jemalloc of its own is met, and its configuration comes from us alone.
#
# gmem_jemalloc_engine   objects, for what links gmem_static
# gmem-jemalloc          libgmem-jemalloc.so, beside libgmem.so. Its thread-local data (2.6 KiB, initial-exec) is more
#                        than a running process can still take in: who is to have small objects packed links it, or
#                        preloads it; libgmem.so itself may come by dlopen, and then does without.

function(gmem_find_jemalloc)
  find_library(GMEM_JEMALLOC_ARCHIVE libjemalloc_pic.a)
  find_path(GMEM_JEMALLOC_INCLUDE jemalloc/jemalloc.h)
  mark_as_advanced(GMEM_JEMALLOC_ARCHIVE GMEM_JEMALLOC_INCLUDE)
  if(NOT GMEM_JEMALLOC_ARCHIVE OR NOT GMEM_JEMALLOC_INCLUDE)
    message(FATAL_ERROR
            "libjemalloc_pic.a was not found: install it with `apt-get install libjemalloc-dev`, then configure again.")
  endif()
endfunction()

# gmem_rename_jemalloc(TARGET PREFIX): the archive in the variable TARGET_archive, made by the target.
function(gmem_rename_jemalloc target prefix)
  set(renamed ${CMAKE_BINARY_DIR}/jemalloc/lib${target}.a)
  set(script ${PROJECT_SOURCE_DIR}/cmake/rename_jemalloc.cmake)
  add_custom_command(
    OUTPUT ${renamed}
    COMMAND ${CMAKE_COMMAND} -D FROM=${GMEM_JEMALLOC_ARCHIVE} -D TO=${renamed} -D PREFIX=${prefix} -D AR=${CMAKE_AR}
            -D NM=${CMAKE_NM} -D OBJCOPY=${CMAKE_OBJCOPY} -P ${script}
    DEPENDS ${GMEM_JEMALLOC_ARCHIVE} ${script}
    COMMENT "Renaming jemalloc's symbols" VERBATIM)
  add_custom_target(${target} DEPENDS ${renamed})
  set(${target}_archive ${renamed} PARENT_SCOPE)
endfunction()

function(gmem_add_jemalloc)
  gmem_rename_jemalloc(gmem_renamed_jemalloc gmem_jemalloc_)
  add_library(gmem_jemalloc_engine OBJECT ${PROJECT_SOURCE_DIR}/runtime/malloc/jemalloc/engine.cpp)
  gmem_rules(gmem_jemalloc_engine)
  target_include_directories(gmem_jemalloc_engine PRIVATE ${PROJECT_SOURCE_DIR}/runtime)
  target_include_directories(gmem_jemalloc_engine SYSTEM PRIVATE ${GMEM_JEMALLOC_INCLUDE})
  add_dependencies(gmem_jemalloc_engine gmem_renamed_jemalloc)

  add_library(gmem-jemalloc SHARED $<TARGET_OBJECTS:gmem_jemalloc_engine>)
  gmem_rules(gmem-jemalloc)
  gmem_export_only(gmem-jemalloc jemalloc.map)
  set_target_properties(gmem-jemalloc PROPERTIES LINKER_LANGUAGE CXX)
  target_link_libraries(gmem-jemalloc PRIVATE ${gmem_renamed_jemalloc_archive} Threads::Threads ${CMAKE_DL_LIBS} m)
  add_dependencies(gmem-jemalloc gmem_renamed_jemalloc)
  set(gmem_renamed_jemalloc_archive ${gmem_renamed_jemalloc_archive} PARENT_SCOPE)
endfunction()
