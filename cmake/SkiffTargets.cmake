# How a folder declares what it builds. Every include is written from the top of the tree.

# skiff_library(NAME SOURCES a.cc ... DEPS target ...)
function(skiff_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} STATIC ${arg_SOURCES})
  target_include_directories(${name} PUBLIC "${CMAKE_SOURCE_DIR}" "${CMAKE_BINARY_DIR}")
  target_compile_options(${name} PRIVATE ${SKIFF_OWN_OPTIONS})
  target_link_libraries(${name} PUBLIC ${arg_DEPS} Threads::Threads)
endfunction()

# skiff_binary(NAME SOURCES main.cc ... DEPS target ...): a program, in <build>/bin.
function(skiff_binary name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_include_directories(${name} PRIVATE "${CMAKE_SOURCE_DIR}" "${CMAKE_BINARY_DIR}")
  target_compile_options(${name} PRIVATE ${SKIFF_OWN_OPTIONS})
  target_link_libraries(${name} PRIVATE ${arg_DEPS} Threads::Threads)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")
endfunction()

# skiff_test(NAME SOURCES a_test.cc ... DEPS target ... [LABEL unit|root] [THREADS] [TIMEOUT seconds]):
# a GoogleTest program. Label "unit" (the default) runs without root and is built with the sanitizers too; label
# "root" needs the real kernel as root. THREADS: it has several threads, so ThreadSanitizer can find
# something; the others are built with it by name only.
function(skiff_test name)
  cmake_parse_arguments(arg "THREADS" "LABEL;TIMEOUT" "SOURCES;DEPS" ${ARGN})
  if(NOT arg_LABEL)
    set(arg_LABEL unit)
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_include_directories(${name} PRIVATE "${CMAKE_SOURCE_DIR}" "${CMAKE_BINARY_DIR}")
  target_compile_options(${name} PRIVATE ${SKIFF_OWN_OPTIONS})
  target_link_libraries(${name} PRIVATE ${arg_DEPS} GTest::gmock GTest::gtest_main Threads::Threads)
  set_target_properties(${name} PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
  if(SKIFF_SANITIZE STREQUAL "thread" AND NOT arg_THREADS)
    set_target_properties(${name} PROPERTIES EXCLUDE_FROM_ALL ON)
    return()
  endif()
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY "${CMAKE_SOURCE_DIR}")
  set_tests_properties(${name} PROPERTIES LABELS ${arg_LABEL} TIMEOUT ${arg_TIMEOUT})
  if(SKIFF_SANITIZE)
    set_tests_properties(${name} PROPERTIES ENVIRONMENT
      "UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1;TSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/tests/support/tsan.supp")
  endif()
  if(arg_LABEL STREQUAL "unit")
    add_dependencies(unit-tests ${name})
  endif()
endfunction()
add_custom_target(unit-tests)

# skiff_proto_library(NAME PROTOS a.proto ... [GRPC] DEPS target ...): C++ from .proto files, whose
# paths are given from the top of the tree. Generated headers land in <build>/<same path>.
function(skiff_proto_library name)
  cmake_parse_arguments(arg "GRPC" "" "PROTOS;DEPS" ${ARGN})
  set(generated "")
  foreach(proto ${arg_PROTOS})
    string(REGEX REPLACE "\\.proto$" "" stem "${proto}")
    set(outputs "${CMAKE_BINARY_DIR}/${stem}.pb.cc" "${CMAKE_BINARY_DIR}/${stem}.pb.h")
    set(flags "--cpp_out=${CMAKE_BINARY_DIR}")
    if(arg_GRPC)
      list(APPEND outputs "${CMAKE_BINARY_DIR}/${stem}.grpc.pb.cc" "${CMAKE_BINARY_DIR}/${stem}.grpc.pb.h")
      list(APPEND flags "--grpc_out=generate_mock_code=false:${CMAKE_BINARY_DIR}"
                        "--plugin=protoc-gen-grpc=${SKIFF_GRPC_PLUGIN}")
    endif()
    add_custom_command(
      OUTPUT ${outputs}
      COMMAND "${SKIFF_PROTOC}" "--proto_path=${CMAKE_SOURCE_DIR}" ${flags} "${proto}"
      DEPENDS "${CMAKE_SOURCE_DIR}/${proto}"
      WORKING_DIRECTORY "${CMAKE_SOURCE_DIR}"
      COMMENT "protoc ${proto}" VERBATIM)
    list(APPEND generated ${outputs})
  endforeach()
  add_library(${name} STATIC ${generated})
  # One object for every preset: compiled file by file, so that ccache finds it again.
  set_target_properties(${name} PROPERTIES UNITY_BUILD OFF)
  target_include_directories(${name} PUBLIC "${CMAKE_SOURCE_DIR}" "${CMAKE_BINARY_DIR}")
  target_compile_options(${name} PRIVATE -w)
  target_link_libraries(${name} PUBLIC protobuf::libprotobuf ${arg_DEPS})
  if(arg_GRPC)
    target_link_libraries(${name} PUBLIC gRPC::grpc++)
  endif()
endfunction()
