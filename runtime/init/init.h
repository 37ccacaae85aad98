// skiff-init: makes a sandbox, a container or an exec out of the calling process, and becomes the
// program. See launch/launch_spec.h for what it finds in its descriptors.
//
// It is a program of its own for the daemon; the shim's children are copies of the shim, which has
// this code too, and go on with it at once: to execute a program takes the kernel longer than most
// of what it would do.
#pragma once

namespace skiff::runtime {

// Of a process with one thread, whose descriptors are those of launch_spec.h and no others. Does
// not return where it becomes the program; else the status to exit with.
int RunInit();

}  // namespace skiff::runtime
