// SPDX-License-Identifier: Apache-2.0
//
// linked_list - one set of links, followed and changed by the CPU and by the device in turns.
//
// The idea: a data structure full of pointers needs no second form for the device, and no code that packs and unpacks
// it. Where device addresses differ from the host's (gm_node_info says so: same_address is 0) a stored pointer would be
// right on one side only. So a link here stores how far away its target is, counted from the link itself: device
// address = host address + a constant, the same for both ends, and the distance is right everywhere.
//
// Many short lists share one pool, their nodes shuffled all over it. The CPU builds them; a kernel reverses every list
// and doubles its values; the CPU then cuts off each list's head and hangs a node of its own in; a kernel adds
// the values up. The same is done to std::list, and the results must be equal.
#include <getopt.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <gmem/gmem.hpp>
#include <gmem/parallel.hpp>
#include <iostream>
#include <list>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "whole_number.h"

namespace {

constexpr std::size_t lists_max = std::size_t{1} << 20;
constexpr std::size_t nodes_a_list = 32;

struct node;

// A pointer to a node that is kept as the distance from this very link; 0 is null. Copying the bytes of a link would
// lose the target, so it is assigned from pointers only.
class relative_link {
 public:
  relative_link() = default;
  relative_link(const relative_link&) = delete;
  relative_link& operator=(const relative_link&) = delete;

  GM_HOST_DEVICE node* get() const { return distance_ == 0 ? nullptr : reinterpret_cast<node*>(address() + distance_); }
  GM_HOST_DEVICE relative_link& operator=(node* target) {
    distance_ = target == nullptr ? 0 : reinterpret_cast<std::intptr_t>(target) - address();
    return *this;
  }

 private:
  GM_HOST_DEVICE std::intptr_t address() const { return reinterpret_cast<std::intptr_t>(this); }

  std::intptr_t distance_ = 0;
};

struct node {
  relative_link next;
  std::int64_t value = 0;
};

struct list {
  relative_link first;
  std::int64_t sum = 0;
};

// The managed memory, all in one piece: the lists' heads lie before the nodes. A link from one allocation into another
// would need the two to keep their distance on the device, which only devices with a window promise.
struct list_pool {
  explicit list_pool(std::size_t list_count)
      : lists(list_count),
        nodes(list_count * (nodes_a_list + 1)),  // one more a list, for the CPU to add
        bytes(gm::make_unique<std::byte[]>(lists * sizeof(list) + nodes * sizeof(node))) {
    std::uninitialized_default_construct_n(first_list(bytes.get()), lists);
    std::uninitialized_default_construct_n(first_node(bytes.get()), nodes);
  }

  // Host or device addresses, by the address of the piece.
  list* first_list(std::byte* base) const { return reinterpret_cast<list*>(base); }
  node* first_node(std::byte* base) const { return reinterpret_cast<node*>(base + lists * sizeof(list)); }

  std::size_t lists, nodes;
  gm::unique_ptr<std::byte[]> bytes;
};

using plain_lists = std::vector<std::list<std::int64_t>>;

// The same values into both; the nodes of a list lie at random places of the pool.
void build(list_pool& pool, plain_lists& plain) {
  std::vector<std::size_t> places(pool.nodes - pool.lists);
  std::iota(places.begin(), places.end(), pool.lists);  // the first nodes are kept for drop_the_head_and_add_a_node
  std::shuffle(places.begin(), places.end(), std::mt19937_64(20230512));
  list* const lists = pool.first_list(pool.bytes.get());
  node* const nodes = pool.first_node(pool.bytes.get());
  for (std::size_t i = 0; i < places.size(); ++i) {
    const std::size_t l = i % pool.lists;
    node& added = nodes[places[i]];
    added.value = static_cast<std::int64_t>(i * 2654435761U % 1000003);
    added.next = lists[l].first.get();
    lists[l].first = &added;
    plain[l].push_front(added.value);
  }
}

void reverse_and_double(gm::stream& stream, const list_pool& pool) {
  gm::scope use(stream, gm::read_write(pool.bytes));
  list* const lists = pool.first_list(gm::device_pointer(pool.bytes.get(), stream));
  gm::parallel_for(
      stream, pool.lists, GM_LAMBDA(std::size_t l) {
        node* reversed = nullptr;
        for (node* here = lists[l].first.get(); here != nullptr;) {
          node* const rest = here->next.get();
          here->value *= 2;
          here->next = reversed;
          reversed = here;
          here = rest;
        }
        lists[l].first = reversed;
      });
}

// By the CPU, through plain pointers, right behind the kernel: the first access waits for it.
void drop_the_head_and_add_a_node(list_pool& pool) {
  list* const lists = pool.first_list(pool.bytes.get());
  node* const nodes = pool.first_node(pool.bytes.get());
  for (std::size_t l = 0; l < pool.lists; ++l) {
    lists[l].first = lists[l].first.get()->next.get();
    node& added = nodes[l];
    node& before = *lists[l].first.get();
    added.value = -static_cast<std::int64_t>(l);
    added.next = before.next.get();
    before.next = &added;
  }
}

void add_up(gm::stream& stream, const list_pool& pool) {
  gm::scope use(stream, gm::read_write(pool.bytes));
  list* const lists = pool.first_list(gm::device_pointer(pool.bytes.get(), stream));
  gm::parallel_for(
      stream, pool.lists, GM_LAMBDA(std::size_t l) {
        std::int64_t sum = 0;
        for (const node* here = lists[l].first.get(); here != nullptr; here = here->next.get()) sum += here->value;
        lists[l].sum = sum;
      });
}

void do_the_same(plain_lists& plain) {
  for (std::size_t l = 0; l < plain.size(); ++l) {
    plain[l].reverse();
    for (std::int64_t& value : plain[l]) value *= 2;
    plain[l].pop_front();
    plain[l].insert(std::next(plain[l].begin()), -static_cast<std::int64_t>(l));
  }
}

bool equal(const list_pool& pool, const plain_lists& plain) {
  const list* const lists = pool.first_list(pool.bytes.get());
  for (std::size_t l = 0; l < plain.size(); ++l) {
    auto expected = plain[l].begin();
    const node* here = lists[l].first.get();
    for (; here != nullptr && expected != plain[l].end() && here->value == *expected; here = here->next.get())
      ++expected;
    const std::int64_t sum = std::accumulate(plain[l].begin(), plain[l].end(), std::int64_t{0});
    if (here != nullptr || expected != plain[l].end() || lists[l].sum != sum) {
      std::cerr << "linked_list: WRONG: list " << l << " differs from std::list after "
                << std::distance(plain[l].begin(), expected) << " nodes; its sum is " << lists[l].sum
                << " and should be " << sum << '\n';
      return false;
    }
  }
  return true;
}

int run(std::size_t list_count) {
  gm::stream stream;
  list_pool pool(list_count);
  plain_lists plain(list_count);
  build(pool, plain);
  reverse_and_double(stream, pool);
  drop_the_head_and_add_a_node(pool);
  add_up(stream, pool);
  do_the_same(plain);
  if (!equal(pool, plain)) return 1;
  const gm_node_info device = gm::node_info(stream.node());
  std::cout << "linked_list: " << list_count << " lists of " << nodes_a_list
            << " nodes, followed and changed by the CPU and " << device.name
            << " over one set of links (device addresses are "
            << (device.same_address ? "the host's" : "not the host's") << "), equal to std::list\n";
  return 0;
}

void usage(std::ostream& to) {
  to << "Usage: sample_linked_list [OPTION]...\n"
        "Linked lists that the CPU and the first device follow and change in turns, checked against std::list.\n"
        "  -n, --lists=N   how many lists, 1 to "
     << lists_max
     << " (default 20000)\n"
        "  -h, --help      this text\n";
}

}  // namespace

int main(int argc, char** argv) {
  std::size_t list_count = 20000;
  const option options[] = {{"lists", required_argument, nullptr, 'n'}, {"help", no_argument, nullptr, 'h'}, {}};
  for (int letter; (letter = getopt_long(argc, argv, "n:h", options, nullptr)) != -1;) {
    const auto number = letter == 'n' ? sample::whole_number(optarg, 1, lists_max) : std::nullopt;
    if (!number) {
      usage(letter == 'h' ? std::cout : std::cerr);
      return letter == 'h' ? 0 : 2;
    }
    list_count = *number;
  }
  if (optind != argc) {
    usage(std::cerr);
    return 2;
  }
  try {
    return run(list_count);
  } catch (const std::exception& failure) {
    std::cerr << "linked_list: " << failure.what() << '\n';
    return 1;
  }
}
