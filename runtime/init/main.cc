#include "runtime/init/init.h"

int main() { return skiff::runtime::RunInit(); }
