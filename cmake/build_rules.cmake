# SPDX-License-Identifier: Apache-2.0
# What every target of the project is built with.
#
# Libraries, backends and executables all go to one folder, because the runtime looks for its backends in the folder
# that holds the object it is itself part of: libgmem.so, or an executable with gmem_static inside.

set(gmem_bin_dir ${CMAKE_BINARY_DIR}/bin)

set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_BUILD_RPATH_USE_ORIGIN ON)

add_library(gmem_build_rules INTERFACE)
target_compile_features(gmem_build_rules INTERFACE cxx_std_20 c_std_11)
target_compile_options(gmem_build_rules INTERFACE
  -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion
  $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor -Wold-style-cast -Woverloaded-virtual>
  $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety>
  $<$<BOOL:${GMEM_WERROR}>:-Werror>)
# Locks are laid out differently with the checks on: everything that looks inside must agree.
target_compile_definitions(gmem_build_rules INTERFACE $<$<BOOL:${GMEM_DEBUG_CHECKS}>:GMEM_DEBUG_CHECKS=1>)

if(GMEM_SANITIZE)
  set(sanitize_flags -fsanitize=${GMEM_SANITIZE} -fno-omit-frame-pointer)
  if(GMEM_SANITIZE MATCHES "undefined")
    list(APPEND sanitize_flags -fno-sanitize-recover=undefined)
  endif()
  target_compile_options(gmem_build_rules INTERFACE ${sanitize_flags})
  target_link_options(gmem_build_rules INTERFACE ${sanitize_flags})
endif()

# gmem_rules(TARGET): the compiler options, and the output folder.
function(gmem_rules target)
  target_link_libraries(${target} PRIVATE $<BUILD_INTERFACE:gmem_build_rules>)
  set_target_properties(${target} PROPERTIES
    CXX_EXTENSIONS OFF
    CXX_VISIBILITY_PRESET hidden
    C_VISIBILITY_PRESET hidden
    VISIBILITY_INLINES_HIDDEN ON
    POSITION_INDEPENDENT_CODE ON
    RUNTIME_OUTPUT_DIRECTORY ${gmem_bin_dir}
    LIBRARY_OUTPUT_DIRECTORY ${gmem_bin_dir}
    ARCHIVE_OUTPUT_DIRECTORY ${gmem_bin_dir})
endfunction()

# gmem_export_only(TARGET MAP): exports what the version script names, and must find every symbol it uses. dlclose
# leaves it in place: its threads and its signal handler live until gm_shutdown.
function(gmem_export_only target map)
  set(map_path ${PROJECT_SOURCE_DIR}/cmake/${map})
  target_link_options(${target} PRIVATE -Wl,--version-script=${map_path} -Wl,-z,relro -Wl,-z,now
                      -Wl,-z,nodelete)
  if(NOT GMEM_SANITIZE)  # a sanitizer's symbols come from the executable with some compilers
    target_link_options(${target} PRIVATE -Wl,-z,defs)
  endif()
  set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS ${map_path})
endfunction()

# gmem_backend(NAME SOURCES...): the loadable object libgmem-NAME.so.
function(gmem_backend name)
  set(target gmem-${name})
  add_library(${target} MODULE ${ARGN})
  gmem_rules(${target})
  gmem_export_only(${target} backend.map)
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/runtime ${PROJECT_SOURCE_DIR}/include)
  set_property(GLOBAL APPEND PROPERTY gmem_backends ${target})
endfunction()

# gmem_gpu_sources(TARGET VENDOR_HEADER): what all GPU backends are made of, over that vendor's header.
function(gmem_gpu_sources target vendor_header)
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/runtime/device/gpu/*.cpp
                                      ${PROJECT_SOURCE_DIR}/runtime/device/parts/*.cpp)
  target_sources(${target} PRIVATE ${sources})
  target_compile_definitions(${target} PRIVATE "GMEM_GPU_VENDOR=\"${vendor_header}\"")
  target_link_libraries(${target} PRIVATE Threads::Threads ${CMAKE_DL_LIBS})
endfunction()

# gmem_gpu_backend(NAME): the loadable object libgmem-NAME.so.
function(gmem_gpu_backend name)
  gmem_backend(${name})
  gmem_gpu_sources(gmem-${name} device/${name}/vendor.h)
endfunction()

# gmem_load_backends(TARGET): TARGET starts the runtime, so building it builds the backends too.
function(gmem_load_backends target)
  get_property(backends GLOBAL PROPERTY gmem_backends)
  add_dependencies(${target} ${backends})
endfunction()
