// What the programs of the fast path (packets.bpf.c) share with the process that loads them; C, as
// both read it.
#pragma once

#include <linux/types.h>

// A packet's mark bit: its connection may take the fast path. Set by a rule behind all others, and
// cleared where the packet leaves by one of the pod network's links. Not the pod network's (bit
// 13), the proxy's (bit 14) or the kubelet's (bit 15).
#define SKIFF_FAST_MARK 0x1000

// Of connections, both directions each, that are remembered at a time; older ones are forgotten.
#define SKIFF_FAST_FLOWS 32768
#define SKIFF_FAST_PODS 4096  // addresses

// A connection must be seen on the slow path so often: then its tracking does not time out, and
// rules and routes that change hold for it.
#define SKIFF_FAST_FRESH_NANOSECONDS 1000000000ull

// IPv4 addresses are mapped, ::ffff:10.0.0.1.
struct skiff_address {
  __u32 words[4];
};

// One direction of a connection. Without holes: the kernel compares bytes.
struct skiff_flow_key {
  struct skiff_address source, destination;
  __u32 ports;     // as in the packet
  __u16 protocol;  // IPPROTO_TCP, IPPROTO_UDP
  __u16 family;    // as in the frame: ETH_P_IP, ETH_P_IPV6
};

// How its packets left on the slow path.
struct skiff_flow {
  __u64 seen;  // when one was last there, by CLOCK_MONOTONIC_COARSE
  __u32 link;
  // The largest packet that was (after segmentation, with its Ethernet header): what is larger may
  // be too large for a link or a route, and goes the slow path until one has passed.
  __u32 size;
  __u8 ethernet[14];
  __u8 to_pod;  // the link is a pod's; else the overlay's
  __u8 unused;
};

enum skiff_fast_count {
  SKIFF_FAST_TAKEN,    // packets that took the fast path
  SKIFF_FAST_LEARNED,  // packets that were seen on the slow path and remembered
  SKIFF_FAST_COUNTS,
};
