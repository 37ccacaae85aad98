// Runs a fuzz target without a fuzzing engine: each file of the corpus, then mutations of them for
// a bounded time, from a seed that is printed so that a crash can be had again.
//
//   fuzz_NAME [--seconds N] [--seed N] [FILE|DIRECTORY]...

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Random = std::mt19937_64;

void RunOne(const std::string& input) {
  // A copy of exactly this size, so that a sanitizer sees reads past the end.
  std::vector<uint8_t> bytes(input.begin(), input.end());
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

size_t Below(Random& random, size_t limit) { return limit == 0 ? 0 : random() % limit; }

std::string Mutate(std::string input, const std::vector<std::string>& corpus, Random& random) {
  static constexpr char kInteresting[] = "\0\xff\x7f\x80{}[]\"\\:,\n -.&*09eE/%";
  for (size_t round = 1 + Below(random, 4); round > 0; --round) {
    size_t at = Below(random, input.size() + 1);
    switch (Below(random, 6)) {
      case 0:  // another byte
        if (at < input.size()) input[at] = static_cast<char>(random());
        break;
      case 1:  // a byte that parsers care for
        input.insert(at, 1, kInteresting[Below(random, sizeof kInteresting - 1)]);
        break;
      case 2:  // a piece less
        input.erase(at, Below(random, 16));
        break;
      case 3:  // a piece again
        input.insert(at, input.substr(Below(random, input.size() + 1), Below(random, 32)));
        break;
      case 4: {  // a piece of another input
        const std::string& other = corpus[Below(random, corpus.size())];
        input.insert(at, other.substr(Below(random, other.size() + 1), Below(random, 64)));
        break;
      }
      default:  // another bit
        if (at < input.size()) input[at] = static_cast<char>(input[at] ^ (1 << Below(random, 8)));
    }
  }
  return input;
}

void Load(const std::filesystem::path& path, std::vector<std::string>& corpus) {
  if (std::filesystem::is_directory(path)) {
    for (const auto& entry : std::filesystem::directory_iterator(path)) Load(entry.path(), corpus);
  } else if (std::ifstream file(path, std::ios::binary); file) {
    corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::chrono::seconds budget(10);
  uint64_t seed = std::random_device()();
  std::vector<std::string> corpus;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--seconds") == 0 && i + 1 < argc) {
      budget = std::chrono::seconds(std::atoi(argv[++i]));
    } else if (std::strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
      seed = std::strtoull(argv[++i], nullptr, 10);
    } else {
      Load(argv[i], corpus);
    }
  }
  std::printf("seed %llu, %zu inputs\n", static_cast<unsigned long long>(seed), corpus.size());
  std::fflush(stdout);
  for (const std::string& input : corpus) RunOne(input);
  corpus.emplace_back();
  Random random(seed);
  size_t runs = 0;
  auto until = std::chrono::steady_clock::now() + budget;
  while (std::chrono::steady_clock::now() < until) {
    RunOne(Mutate(corpus[Below(random, corpus.size())], corpus, random));
    ++runs;
  }
  std::printf("%zu mutations, no crash\n", runs);
  return 0;
}
