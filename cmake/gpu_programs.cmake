# SPDX-License-Identifier: Apache-2.0
# Programs with kernels, compiled by nvcc and hipcc from the sources that the host compiler takes too.
#
# The compilers are called directly: of CMake's languages, HIP's wants a ROCm of its own kind, and both would decide for
# the whole project what a handful of programs need. gmem_gpu_compilers() sets GMEM_NVCC and GMEM_HIPCC, or leaves them
# empty; gmem_gpu_program(VENDOR TARGET SOURCES...) makes a program beside the library.

set(GMEM_CUDA_ARCHITECTURES 80 90 CACHE STRING "Compute capabilities that kernels are compiled for")
set(GMEM_HIP_ARCHITECTURES gfx90a gfx1100 CACHE STRING "AMD processors that kernels are compiled for")

set(gpu_common_flags -std=c++20 -O2 -DNDEBUG -I${PROJECT_SOURCE_DIR}/include -I${PROJECT_SOURCE_DIR})

macro(gmem_gpu_compilers)
  set(GMEM_NVCC "")
  set(GMEM_HIPCC "")
  if(GMEM_WITH_CUDA AND CUDAToolkit_NVCC_EXECUTABLE)
    set(GMEM_NVCC ${CUDAToolkit_NVCC_EXECUTABLE})
    set(cuda_flags ${gpu_common_flags} --extended-lambda -x cu -ccbin ${CMAKE_CXX_COMPILER})
    foreach(architecture IN LISTS GMEM_CUDA_ARCHITECTURES)
      list(APPEND cuda_flags -gencode arch=compute_${architecture},code=[compute_${architecture},sm_${architecture}])
    endforeach()
    if(GMEM_WERROR)
      list(APPEND cuda_flags -Werror all-warnings)
    endif()
  endif()
  if(GMEM_WITH_HIP)
    find_program(GMEM_HIPCC_EXECUTABLE hipcc HINTS ENV ROCM_PATH /opt/rocm PATH_SUFFIXES bin)
    if(GMEM_HIPCC_EXECUTABLE)
      set(GMEM_HIPCC ${GMEM_HIPCC_EXECUTABLE})
      set(hip_flags ${gpu_common_flags} -x hip -Wall)
      foreach(architecture IN LISTS GMEM_HIP_ARCHITECTURES)
        list(APPEND hip_flags --offload-arch=${architecture})
      endforeach()
      if(GMEM_WERROR)
        list(APPEND hip_flags -Werror)
      endif()
      gmem_hip_device_libraries()
    endif()
  endif()
endmacro()

# A compiler may know more processors than its device libraries do (Debian 12: clang 15 knows gfx1100, the libraries end
# at gfx1036). What lacks is one constant, the processor's number: it is compiled here, beside links to the rest.
macro(gmem_hip_device_libraries)
  find_path(GMEM_HIP_BITCODE_DIR ockl.bc HINTS ENV ROCM_PATH /opt/rocm
            PATH_SUFFIXES amdgcn/bitcode lib/${CMAKE_LIBRARY_ARCHITECTURE}/amdgcn/bitcode)
  set(lacking "")
  foreach(architecture IN LISTS GMEM_HIP_ARCHITECTURES)
    string(REGEX REPLACE "^gfx" "" version ${architecture})
    if(GMEM_HIP_BITCODE_DIR AND NOT EXISTS ${GMEM_HIP_BITCODE_DIR}/oclc_isa_version_${version}.bc)
      list(APPEND lacking ${version})
    endif()
  endforeach()
  if(lacking)
    set(bitcode_dir ${CMAKE_BINARY_DIR}/hip-device-libraries)
    file(MAKE_DIRECTORY ${bitcode_dir})
    file(GLOB bitcode ${GMEM_HIP_BITCODE_DIR}/*.bc)
    foreach(file IN LISTS bitcode)
      cmake_path(GET file FILENAME file_name)
      file(CREATE_LINK ${file} ${bitcode_dir}/${file_name} SYMBOLIC)
    endforeach()
    list(APPEND hip_flags --hip-device-lib-path=${bitcode_dir})
    foreach(version IN LISTS lacking)
      gmem_hip_processor_number(${version} ${bitcode_dir}/oclc_isa_version_${version}.bc)
    endforeach()
  endif()
endmacro()

# "1100" is 11000: the last two digits are hexadecimal, the number is major * 1000 + minor * 100 + stepping.
function(gmem_hip_processor_number version bitcode_file)
  if(EXISTS ${bitcode_file})
    return()
  endif()
  string(REGEX MATCH "^(.*)(.)(.)$" matched ${version})
  math(EXPR number "${CMAKE_MATCH_1} * 1000 + 0x${CMAKE_MATCH_2} * 100 + 0x${CMAKE_MATCH_3}")
  set(source ${bitcode_file}.c)
  file(WRITE ${source} "__attribute__((weak, visibility(\"protected\"), address_space(4)))\n"
                       "const int __oclc_ISA_version = ${number};\n")
  execute_process(COMMAND ${GMEM_HIPCC} -x c -target amdgcn-amd-amdhsa -nogpulib -O1 -emit-llvm -c ${source}
                          -o ${bitcode_file}
                  RESULT_VARIABLE failed OUTPUT_QUIET ERROR_QUIET)
  if(failed)
    message(WARNING "hipcc's device libraries lack gfx${version}, and it could not be added.")
  endif()
endfunction()

# Objects, then a program in the folder of the library, which it finds there. VENDOR is cuda or hip. Of the sources come
# also INCLUDES and SYSTEM_INCLUDES, folders, OPTIONS for the compiler, OBJECTS, a library of objects of the host
# compiler's, and LIBRARIES, as the linker names them or by their paths.
function(gmem_gpu_program vendor target)
  cmake_parse_arguments(PARSE_ARGV 2 program "" "" "INCLUDES;SYSTEM_INCLUDES;OPTIONS;OBJECTS;LIBRARIES")
  list(TRANSFORM program_INCLUDES PREPEND -I)
  list(REMOVE_ITEM program_SYSTEM_INCLUDES ${CMAKE_CXX_IMPLICIT_INCLUDE_DIRECTORIES})  # named anew, they change places
  list(TRANSFORM program_SYSTEM_INCLUDES PREPEND -isystem)
  if(vendor STREQUAL "cuda")
    set(compile ${GMEM_NVCC} ${cuda_flags})
    set(link ${GMEM_NVCC} -ccbin ${CMAKE_CXX_COMPILER})
    set(rpath -Xlinker -rpath=)
  else()
    set(compile ${GMEM_HIPCC} ${hip_flags})
    set(link ${GMEM_HIPCC} --hip-link)
    set(rpath -Wl,-rpath,)
  endif()
  list(APPEND link ${rpath}$ORIGIN)
  foreach(library IN LISTS program_LIBRARIES)
    if(IS_ABSOLUTE ${library})
      cmake_path(GET library PARENT_PATH folder)
      list(APPEND link ${rpath}${folder})
    endif()
  endforeach()
  list(TRANSFORM program_LIBRARIES PREPEND -l REGEX "^[^/]")
  set(objects "")
  foreach(source IN LISTS program_UNPARSED_ARGUMENTS)
    cmake_path(GET source STEM name)
    set(object ${CMAKE_CURRENT_BINARY_DIR}/${target}.dir/${name}.o)
    add_custom_command(OUTPUT ${object}
                       COMMAND ${compile} ${program_INCLUDES} ${program_SYSTEM_INCLUDES}
                               ${program_OPTIONS} -MD -MF ${object}.d -c ${source} -o ${object}
                       DEPENDS ${source} DEPFILE ${object}.d COMMENT "Compiling ${target}/${name} with ${vendor}"
                       VERBATIM)
    list(APPEND objects ${object})
  endforeach()
  if(program_OBJECTS)
    list(APPEND objects $<TARGET_OBJECTS:${program_OBJECTS}>)
  endif()
  file(MAKE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/${target}.dir)
  set(program ${gmem_bin_dir}/${target})
  add_custom_command(OUTPUT ${program}
                     COMMAND ${link} -o ${program} ${objects} -L${gmem_bin_dir} -lgmem
                             ${program_LIBRARIES} -lpthread
                     DEPENDS ${objects} gmem COMMENT "Linking ${target}" VERBATIM COMMAND_EXPAND_LISTS)
  add_custom_target(${target} ALL DEPENDS ${program})
endfunction()
