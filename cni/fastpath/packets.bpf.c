// The fast path's programs, compiled for the kernel's BPF machine and run by traffic control:
//
//   leave_pod, leave_overlay   on what a pod, or another node, sends in
//   reach_pod, reach_overlay   on what goes out to a pod, or to other nodes
//
// What goes out with the mark SKIFF_FAST_MARK belongs to a connection that everybody has accepted:
// how it leaves is remembered. What comes in and is remembered leaves at once in the same way. All
// else, and whatever is odd, goes on as if there were no program.
//
// Written for verifiers from Linux 5.11 on: no kernel functions, no types of the kernel.

// The first gives the others their types.
// clang-format off
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>
// clang-format on

#include "cni/fastpath/maps.h"

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, SKIFF_FAST_FLOWS);
  __type(key, struct skiff_flow_key);
  __type(value, struct skiff_flow);
} flows SEC(".maps");

// The pods of this node: address -> the node's end of its pair.
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, SKIFF_FAST_PODS);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct skiff_address);
  __type(value, __u32);
} pods SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, SKIFF_FAST_COUNTS);
  __type(key, __u32);
  __type(value, __u64);
} counts SEC(".maps");

static __always_inline void count(__u32 what) {
  __u64* counter = bpf_map_lookup_elem(&counts, &what);
  if (counter) ++*counter;
}

static __always_inline void* packet(struct __sk_buff* skb) { return (void*)(long)skb->data; }
static __always_inline void* packet_end(struct __sk_buff* skb) {
  return (void*)(long)skb->data_end;
}

struct packet_facts {
  struct skiff_flow_key key;
  __u32 size;   // as skiff_flow's
  __u32 opens;  // a connection
};

// The transport header at `offset`; 0: none that is for the fast path.
static __always_inline int read_transport(struct __sk_buff* skb, __u32 offset,
                                          struct packet_facts* facts) {
  void* header = packet(skb) + offset;
  __u32 headers = offset + sizeof(struct udphdr);
  if (header + sizeof(struct udphdr) > packet_end(skb)) return 0;
  facts->key.ports = *(__u32*)header;
  if (facts->key.protocol == IPPROTO_TCP) {
    struct tcphdr* tcp = header;
    if (header + sizeof *tcp > packet_end(skb)) return 0;
    // Connection tracking must see how connections begin and end.
    facts->opens = tcp->syn;
    if (tcp->syn || tcp->fin || tcp->rst) return 0;
    headers = offset + tcp->doff * 4;
  } else if (facts->key.protocol != IPPROTO_UDP) {
    return 0;
  }
  facts->size = skb->gso_size ? headers + skb->gso_size : skb->len;
  return 1;
}

// 0: the packet is not for the fast path.
static __always_inline int read_packet(struct __sk_buff* skb, struct packet_facts* facts) {
  const __u32 headers =
      ETH_HLEN + sizeof(struct tcphdr) +
      (skb->protocol == bpf_htons(ETH_P_IP) ? sizeof(struct iphdr) : sizeof(struct ipv6hdr));
  // They are to be in one piece; senders of this machine have them so.
  if (packet(skb) + headers > packet_end(skb) && skb->len >= headers) {
    bpf_skb_pull_data(skb, headers);
  }
  __builtin_memset(facts, 0, sizeof *facts);
  facts->key.family = skb->protocol;
  if (skb->protocol == bpf_htons(ETH_P_IP)) {
    struct iphdr* ip = packet(skb) + ETH_HLEN;
    if ((void*)(ip + 1) > packet_end(skb)) return 0;
    if (ip->version != 4 || ip->ihl != 5) return 0;  // options
    if (ip->frag_off & bpf_htons(0x3fff)) return 0;  // a fragment
    if (ip->ttl <= 1) return 0;
    facts->key.source.words[2] = facts->key.destination.words[2] = bpf_htonl(0xffff);
    facts->key.source.words[3] = ip->saddr;
    facts->key.destination.words[3] = ip->daddr;
    facts->key.protocol = ip->protocol;
    return read_transport(skb, ETH_HLEN + sizeof *ip, facts);
  }
  if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
    struct ipv6hdr* ip = packet(skb) + ETH_HLEN;
    if ((void*)(ip + 1) > packet_end(skb)) return 0;
    if (ip->version != 6 || ip->hop_limit <= 1) return 0;
    __builtin_memcpy(&facts->key.source, &ip->saddr, sizeof(struct skiff_address));
    __builtin_memcpy(&facts->key.destination, &ip->daddr, sizeof(struct skiff_address));
    facts->key.protocol = ip->nexthdr;  // extension headers are none of ours
    return read_transport(skb, ETH_HLEN + sizeof *ip, facts);
  }
  return 0;
}

static __always_inline __u32 link_of_pod(const struct skiff_address* address) {
  const __u32* link = bpf_map_lookup_elem(&pods, address);
  return link ? *link : 0;
}

static __always_inline int remember(struct __sk_buff* skb, int to_pod) {
  if (!(skb->mark & SKIFF_FAST_MARK)) return TC_ACT_OK;
  skb->mark &= ~SKIFF_FAST_MARK;
  struct packet_facts facts;
  if (!read_packet(skb, &facts)) return TC_ACT_OK;
  if (to_pod && link_of_pod(&facts.key.destination) != skb->ifindex) return TC_ACT_OK;
  struct skiff_flow flow = {
      .seen = bpf_ktime_get_coarse_ns(),
      .link = skb->ifindex,
      .size = facts.size,
      .to_pod = to_pod,
  };
  if (bpf_skb_load_bytes(skb, 0, flow.ethernet, sizeof flow.ethernet) != 0) return TC_ACT_OK;
  // What was found out a moment ago holds; what is older is found out again.
  const struct skiff_flow* known = bpf_map_lookup_elem(&flows, &facts.key);
  if (known && known->link == flow.link && known->size > flow.size &&
      flow.seen - known->seen < SKIFF_FAST_FRESH_NANOSECONDS) {
    flow.size = known->size;
  }
  bpf_map_update_elem(&flows, &facts.key, &flow, BPF_ANY);
  count(SKIFF_FAST_LEARNED);
  return TC_ACT_OK;
}

// As routing does: one hop less. 0: the packet cannot be written to.
static __always_inline int rewrite(struct __sk_buff* skb, const struct skiff_flow* flow) {
  void* data = packet(skb);
  if (skb->protocol == bpf_htons(ETH_P_IP)) {
    struct iphdr* ip = data + ETH_HLEN;
    if ((void*)(ip + 1) > packet_end(skb)) return 0;
    // RFC 1624, for one less in the upper byte of a word.
    __u32 sum = ip->check + bpf_htons(0x0100);
    ip->check = sum + (sum >= 0xffff);
    --ip->ttl;
  } else {
    struct ipv6hdr* ip = data + ETH_HLEN;
    if ((void*)(ip + 1) > packet_end(skb)) return 0;
    --ip->hop_limit;
  }
  __builtin_memcpy(data, flow->ethernet, sizeof flow->ethernet);
  return 1;
}

static __always_inline int pass_on(struct __sk_buff* skb, int from_pod) {
  struct packet_facts facts;
  if (!read_packet(skb, &facts)) {
    // What was remembered is of an earlier connection of the same ports.
    if (facts.opens) bpf_map_delete_elem(&flows, &facts.key);
    return TC_ACT_OK;
  }
  const struct skiff_flow* flow = bpf_map_lookup_elem(&flows, &facts.key);
  if (!flow || facts.size > flow->size) return TC_ACT_OK;
  if (bpf_ktime_get_coarse_ns() - flow->seen >= SKIFF_FAST_FRESH_NANOSECONDS) return TC_ACT_OK;
  // A sender's address is its own, and no other node's are the pods of this one.
  if (link_of_pod(&facts.key.source) != (from_pod ? skb->ifindex : 0)) return TC_ACT_OK;
  if (flow->to_pod ? link_of_pod(&facts.key.destination) != flow->link : !from_pod) {
    return TC_ACT_OK;
  }
  if (!rewrite(skb, flow)) return TC_ACT_OK;
  count(SKIFF_FAST_TAKEN);
  if (!flow->to_pod) return bpf_redirect(flow->link, 0);
  bpf_skb_change_type(skb, PACKET_HOST);  // whatever address it was sent to
  return bpf_redirect_peer(flow->link, 0);
}

SEC("tc") int leave_pod(struct __sk_buff* skb) { return pass_on(skb, 1); }
SEC("tc") int leave_overlay(struct __sk_buff* skb) { return pass_on(skb, 0); }
SEC("tc") int reach_pod(struct __sk_buff* skb) { return remember(skb, 1); }
SEC("tc") int reach_overlay(struct __sk_buff* skb) { return remember(skb, 0); }

char program_license[] SEC("license") = "Apache-2.0";
