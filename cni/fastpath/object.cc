#include "cni/fastpath/object.h"

// SKIFF_FAST_PATH_OBJECT: the file, said by CMake. Aligned as ELF wants it.
asm(".pushsection .rodata\n"
    ".balign 16\n"
    "skiff_fast_path_begin:\n"
    ".incbin \"" SKIFF_FAST_PATH_OBJECT
    "\"\n"
    "skiff_fast_path_end:\n"
    ".popsection\n");

extern "C" {
__attribute__((visibility("hidden"))) extern const char skiff_fast_path_begin[];
__attribute__((visibility("hidden"))) extern const char skiff_fast_path_end[];
}

namespace skiff::cni {

std::string_view FastPathObject() {
  return {skiff_fast_path_begin, static_cast<size_t>(skiff_fast_path_end - skiff_fast_path_begin)};
}

}  // namespace skiff::cni
