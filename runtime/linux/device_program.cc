// Device access in cgroup v2, which has no devices controller: a BPF program of the type
// BPF_PROG_TYPE_CGROUP_DEVICE is asked for every open and mknod.

#include <fcntl.h>
#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "base/os/files.h"
#include "runtime/linux/cgroup_internal.h"

namespace skiff::runtime {
namespace {

constexpr uint8_t kType = BPF_REG_3, kAccess = BPF_REG_2, kMajor = BPF_REG_4, kMinor = BPF_REG_5,
                  kScratch = BPF_REG_1;

bpf_insn Instruction(int code, uint8_t destination, uint8_t source, int16_t offset, int32_t value) {
  bpf_insn instruction{};
  instruction.code = static_cast<uint8_t>(code);
  instruction.dst_reg = destination & 0xf;
  instruction.src_reg = source & 0xf;
  instruction.off = offset;
  instruction.imm = value;
  return instruction;
}

bpf_insn Load(uint8_t into, size_t offset) {
  return Instruction(BPF_LDX | BPF_W | BPF_MEM, into, BPF_REG_1, static_cast<int16_t>(offset), 0);
}

void AppendReturn(std::vector<bpf_insn>& program, int value) {
  program.push_back(Instruction(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, value));
  program.push_back(Instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0));
}

// Allows what the rule allows, else goes on behind itself.
void AppendRule(std::vector<bpf_insn>& program, const DeviceRule& rule) {
  std::vector<bpf_insn> tests;
  auto skip_unless = [&](uint8_t reg, int64_t value) {
    tests.push_back(Instruction(BPF_JMP | BPF_JNE | BPF_K, reg, 0, 0, static_cast<int32_t>(value)));
  };
  if (rule.type != 'a') {
    skip_unless(kType, rule.type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
  }
  int allowed = 0;
  for (char access : rule.access) {
    if (access == 'm') allowed |= BPF_DEVCG_ACC_MKNOD;
    if (access == 'r') allowed |= BPF_DEVCG_ACC_READ;
    if (access == 'w') allowed |= BPF_DEVCG_ACC_WRITE;
  }
  tests.push_back(Instruction(BPF_ALU64 | BPF_MOV | BPF_X, kScratch, kAccess, 0, 0));
  tests.push_back(Instruction(BPF_ALU64 | BPF_AND | BPF_K, kScratch, 0, 0, ~allowed & 7));
  skip_unless(kScratch, 0);
  if (rule.major >= 0) skip_unless(kMajor, rule.major);
  if (rule.minor >= 0) skip_unless(kMinor, rule.minor);
  AppendReturn(tests, 1);
  for (size_t i = 0; i < tests.size(); ++i) {
    if (tests[i].code == (BPF_JMP | BPF_JNE | BPF_K)) {
      tests[i].off = static_cast<int16_t>(tests.size() - i - 1);
    }
  }
  program.insert(program.end(), tests.begin(), tests.end());
}

std::vector<bpf_insn> DeviceProgram(const std::vector<DeviceRule>& allowed) {
  std::vector<bpf_insn> program = {
      Load(kAccess, offsetof(bpf_cgroup_dev_ctx, access_type)),
      Instruction(BPF_ALU64 | BPF_MOV | BPF_X, kType, kAccess, 0, 0),
      Instruction(BPF_ALU64 | BPF_AND | BPF_K, kType, 0, 0, 0xffff),
      Instruction(BPF_ALU64 | BPF_RSH | BPF_K, kAccess, 0, 0, 16),
      Load(kMajor, offsetof(bpf_cgroup_dev_ctx, major)),
      Load(kMinor, offsetof(bpf_cgroup_dev_ctx, minor)),
  };
  for (const DeviceRule& rule : allowed) AppendRule(program, rule);
  AppendReturn(program, 0);
  return program;
}

int Bpf(bpf_cmd command, bpf_attr& attributes) {
  return static_cast<int>(::syscall(SYS_bpf, command, &attributes, sizeof attributes));
}

}  // namespace

Result<> AttachDeviceProgram(const std::string& directory, const std::vector<DeviceRule>& allowed) {
  UniqueFd cgroup = TRY(OpenFile(directory, O_RDONLY | O_DIRECTORY));
  std::vector<bpf_insn> instructions = DeviceProgram(allowed);
  bpf_attr load{};
  load.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
  load.insns = reinterpret_cast<uint64_t>(instructions.data());
  load.insn_cnt = static_cast<uint32_t>(instructions.size());
  load.license = reinterpret_cast<uint64_t>("Apache-2.0");
  UniqueFd program(Bpf(BPF_PROG_LOAD, load));
  if (!program) return Error::Sys(errno, "bpf load", "device program");
  bpf_attr attach{};
  attach.target_fd = static_cast<uint32_t>(cgroup.get());
  attach.attach_bpf_fd = static_cast<uint32_t>(program.get());
  attach.attach_type = BPF_CGROUP_DEVICE;
  attach.attach_flags = BPF_F_ALLOW_MULTI;
  if (Bpf(BPF_PROG_ATTACH, attach) != 0) return Error::Sys(errno, "bpf attach", directory);
  return {};
}

}  // namespace skiff::runtime
