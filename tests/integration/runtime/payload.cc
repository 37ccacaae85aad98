// Runs as a setuid program in the tests: says who it is.

#include <unistd.h>

#include <cstdio>

int main() {
  std::printf("effective uid %u\n", ::geteuid());
  return 0;
}
