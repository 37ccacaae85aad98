// The compiled programs (packets.bpf.c), an ELF object for libbpf, as part of this binary.
#pragma once

#include <string_view>

namespace skiff::cni {

std::string_view FastPathObject();

}  // namespace skiff::cni
