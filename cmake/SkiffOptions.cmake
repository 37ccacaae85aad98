# Compiler, warnings, sanitizers, caches: everything that holds for every target.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS ON)  # TRY() is a statement expression
set(CMAKE_POSITION_INDEPENDENT_CODE OFF)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Dev CACHE STRING "Dev or Release" FORCE)
endif()
# Neither optimized nor with debug information: the quickest to build. CXXFLAGS=-g1 gives backtraces their lines.
set(CMAKE_CXX_FLAGS_DEV "" CACHE STRING "everyday work" FORCE)
set(CMAKE_C_FLAGS_DEV "" CACHE STRING "everyday work" FORCE)
set(CMAKE_EXE_LINKER_FLAGS_DEV "" CACHE STRING "everyday work" FORCE)
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1 -ffunction-sections -fdata-sections" CACHE STRING "shipped" FORCE)
set(CMAKE_C_FLAGS_RELEASE "-O2 -g1 -ffunction-sections -fdata-sections" CACHE STRING "shipped" FORCE)
set(CMAKE_EXE_LINKER_FLAGS_RELEASE "-Wl,--gc-sections" CACHE STRING "shipped" FORCE)

option(SKIFF_WERROR "Treat warnings as errors" ON)
set(SKIFF_SANITIZE "" CACHE STRING "Sanitizers, e.g. address,undefined or thread")

find_program(SKIFF_CCACHE ccache)
if(SKIFF_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_C_COMPILER_LAUNCHER "${SKIFF_CCACHE}")
  set(CMAKE_CXX_COMPILER_LAUNCHER "${SKIFF_CCACHE}")
endif()

find_program(SKIFF_MOLD mold)
if(SKIFF_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

# For our own sources; generated ones are exempt (see skiff_proto_library): neither warnings nor
# sanitizers have anything to say about them, and ccache then serves them to every preset.
set(SKIFF_OWN_OPTIONS -Wall -Wextra -Wshadow -Wno-missing-field-initializers)
if(SKIFF_WERROR)
  list(APPEND SKIFF_OWN_OPTIONS -Werror)
endif()
if(CMAKE_UNITY_BUILD)
  # A library or test is one step to compile, or a few: what its sources share is compiled once. So
  # the names in their anonymous namespaces differ.
  set(CMAKE_UNITY_BUILD_BATCH_SIZE 32)
  # A source's own anonymous namespace looks like a header's there.
  list(APPEND SKIFF_OWN_OPTIONS -Wno-subobject-linkage)
endif()
if(SKIFF_SANITIZE)
  list(APPEND SKIFF_OWN_OPTIONS -fsanitize=${SKIFF_SANITIZE} -fno-omit-frame-pointer -g1)
  if(SKIFF_SANITIZE MATCHES "undefined")
    # Checks of every pointer used, a third of the time to compile: what they find,
    # AddressSanitizer finds by the access itself.
    list(APPEND SKIFF_OWN_OPTIONS -fno-sanitize=null,alignment,vptr,object-size)
  endif()
  add_link_options(-fsanitize=${SKIFF_SANITIZE})
  if(SKIFF_SANITIZE STREQUAL "thread")
    # Asio has fences beside its locks; the locks are what it is ordered by.
    list(APPEND SKIFF_OWN_OPTIONS -Wno-tsan)
    # By this macro protobuf and abseil change the layout of their classes, and Debian's libraries
    # and the generated code were compiled without it; the standard library is to know it still.
    list(APPEND SKIFF_OWN_OPTIONS -U__SANITIZE_THREAD__ -D_GLIBCXX_TSAN=1)
    add_link_options("-Wl,--version-script=${CMAKE_SOURCE_DIR}/cmake/tsan.map")
  endif()
endif()
