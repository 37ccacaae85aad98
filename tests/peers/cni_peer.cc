// cni-peer: a CNI plugin for tests that touches no network and misbehaves on request.
//
// Its configuration:
//   "state"  a folder. It has a file for each attachment, made by ADD and removed by DEL, so that
//            what is left can be seen; "calls", a line for each run: "ADD sandbox"; and "gc", the
//            files that the last GC was told to keep.
//   "plan"   a file with a line for each thing to do wrong, "ADD fail"; the first that is of the
//            command is done and taken out, or stays ("ADD! fail"). Words: fail (an error
//            document), crash (exit 3, no document), half (after the work, an error document),
//            hang, garbage, silent, huge, deep, noip, version, child (a child of it holds the
//            output open).
//   "label"  tells plugins of one chain apart that share the folder.
// VERSION is given no configuration: versions.json beside the program is its answer, if it is
// there. As a further plugin of a chain it passes the previous result on.
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace {

using Json = nlohmann::json;

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

struct Run {
  std::string command = Variable("CNI_COMMAND");
  std::string container = Variable("CNI_CONTAINERID");
  Json config;
  std::string state() const { return config.value("state", ""); }
  // Of this plugin of the chain: two of one type may share the folder.
  std::string Attachment(const std::string& id) const {
    return state() + "/" + config.value("label", "peer") + "-" + id;
  }
};

int Fail(const std::string& message) {
  std::printf(R"({"cniVersion": "1.0.0", "code": 111, "msg": "%s", "details": "as planned"})",
              message.c_str());
  return 1;
}

// The first planned mischief of the command, taken out of the plan.
std::string TakeMischief(const Run& run) {
  const std::string plan = run.config.value("plan", "");
  int lock = ::open((plan + ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  ::flock(lock, LOCK_EX);
  std::ifstream in(plan);
  std::string found, rest;
  for (std::string line; std::getline(in, line);) {
    if (found.empty() && line.starts_with(run.command + "! ")) {
      found = line.substr(run.command.size() + 2);
      rest += line + "\n";
    } else if (found.empty() && line.starts_with(run.command + " ")) {
      found = line.substr(run.command.size() + 1);
    } else {
      rest += line + "\n";
    }
  }
  in.close();
  if (!found.empty()) std::ofstream(plan, std::ios::trunc) << rest;
  ::close(lock);
  return found;
}

[[noreturn]] void Hang() {
  for (;;) ::pause();
}

// What is done instead of the work; nothing: the work is done.
bool Misbehave(const std::string& mischief, int* exit_code) {
  *exit_code = 0;
  if (mischief == "fail") {
    *exit_code = Fail("refused");
  } else if (mischief == "crash") {
    std::fprintf(stderr, "panic: as planned\n");
    *exit_code = 3;
  } else if (mischief == "hang") {
    // With a child, as a plugin that runs another program.
    if (::fork() == 0) Hang();
    Hang();
  } else if (mischief == "garbage") {
    std::printf("{\"cniVersion\": \"1.0.0\", \"ips\": [");
  } else if (mischief == "huge") {
    const std::string line(4096, 'x');
    for (int i = 0; i < 1024; ++i) std::fwrite(line.data(), 1, line.size(), stdout);
  } else if (mischief == "deep") {
    std::printf("{\"x\": %s%s}", std::string(5000, '[').c_str(), std::string(5000, ']').c_str());
  } else if (mischief == "version") {
    std::printf("{\"cniVersion\": \"9.0.0\"}");
  } else {
    return false;
  }
  return true;
}

// Addresses are counted: what two attachments never share.
std::string NextAddress(const Run& run) {
  int lock = ::open((run.state() + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  ::flock(lock, LOCK_EX);
  int last = 1;
  std::ifstream(run.state() + "/last") >> last;
  std::ofstream(run.state() + "/last") << ++last;
  ::close(lock);
  return "10.77." + std::to_string(last / 250) + "." + std::to_string(last % 250 + 2);
}

int Add(const Run& run, const std::string& mischief) {
  std::ofstream(run.Attachment(run.container)) << run.config.dump();
  if (mischief == "half") return Fail("half done");
  if (mischief == "silent") return 0;
  if (mischief == "child" && ::fork() == 0) Hang();
  Json result = run.config.value("prevResult", Json());
  if (result.is_null()) {
    result = {{"interfaces",
               {{{"name", "peer0"}},
                {{"name", Variable("CNI_IFNAME")}, {"sandbox", Variable("CNI_NETNS")}}}}};
    if (mischief != "noip") {
      result["ips"] = {
          {{"address", NextAddress(run) + "/16"}, {"gateway", "10.77.0.1"}, {"interface", 1}}};
    }
  }
  result["cniVersion"] = run.config.value("cniVersion", "1.0.0");
  if (result["cniVersion"] < "1.0.0" && result.contains("ips")) result["ips"][0]["version"] = "4";
  std::cout << result.dump();
  return 0;
}

int Collect(const Run& run) {
  std::vector<std::string> valid;
  for (const Json& one : run.config.at("cni.dev/valid-attachments")) {
    valid.push_back(run.Attachment(one.at("containerID").get<std::string>()));
  }
  std::string listing = run.state() + "/gc";
  std::ofstream out(listing);
  for (const std::string& path : valid) out << path << "\n";
  return 0;
}

int Work(const Run& run, const std::string& mischief) {
  if (run.command == "ADD") return Add(run, mischief);
  if (run.command == "DEL") {
    ::unlink(run.Attachment(run.container).c_str());
    return mischief == "half" ? Fail("half done") : 0;
  }
  if (run.command == "CHECK") {
    return ::access(run.Attachment(run.container).c_str(), F_OK) == 0 ? 0 : Fail("gone");
  }
  if (run.command == "GC") return Collect(run);
  return run.command == "STATUS" ? 0 : Fail("unknown command");
}

}  // namespace

int main() {
  Run run;
  const std::string input((std::istreambuf_iterator<char>(std::cin)), {});
  run.config = Json::parse(input);
  if (run.command == "VERSION") {
    // It is given no configuration: a file beside the program says more.
    std::ifstream versions(std::string(Variable("CNI_PATH")) + "/versions.json");
    std::string text((std::istreambuf_iterator<char>(versions)), {});
    if (text.empty()) text = R"(["0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])";
    std::cout << Json{{"cniVersion", "1.0.0"}, {"supportedVersions", Json::parse(text)}}.dump();
    return 0;
  }
  std::ofstream(run.state() + "/calls", std::ios::app) << run.command + " " + run.container + "\n";
  const std::string mischief = TakeMischief(run);
  int exit_code = 0;
  if (Misbehave(mischief, &exit_code)) return exit_code;
  return Work(run, mischief);
}
