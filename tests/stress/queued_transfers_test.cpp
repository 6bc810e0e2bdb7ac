// SPDX-License-Identifier: Apache-2.0
// queued_transfers_test.cpp - copies, fills and prefetches on a stream, of memory that other queued work writes: the
// call does not wait, the transfer does.
#include <functional>

#include "stress/queued_work.h"

namespace gm::test {
namespace {

constexpr std::size_t bytes = 5 * page_size + 1;
constexpr std::size_t some_bytes = page_size + 1;

class queued_transfers : public queued_work {
 protected:
  // The call is queued behind held work that writes 2.
  void behind_held_work(const std::function<gm_status(std::uint8_t*)>& call,
                        const std::function<void(std::vector<std::uint8_t>& wanted)>& change = nullptr) {
    std::uint8_t* p = filled(bytes, 1);
    gate g;
    queue(first_, p, bytes, GM_READ_WRITE, 1, 2, &g);
    EXPECT_EQ(call(p), GM_OK) << gm_last_error();
    expect_no_kernel_ran();
    g.open();
    expect_kernels_were_right();
    std::vector<std::uint8_t> wanted(bytes);
    fill_with(wanted.data(), bytes, 2);
    if (change) change(wanted);
    EXPECT_TRUE(std::equal(wanted.begin(), wanted.end(), p));
    gm_free(p);
  }
};

TEST_P(queued_transfers, prefetches) {
  for (const int node : {2, int{GM_HOST}}) {
    SCOPED_TRACE("to node " + std::to_string(node));
    behind_held_work([&](std::uint8_t* p) { return gm_prefetch(p, bytes, node, other_device_.get()); });
  }
}

TEST_P(queued_transfers, copies) {
  for (const int node : {2, int{GM_HOST}}) {
    SCOPED_TRACE("by node " + std::to_string(node));
    std::vector<std::uint8_t> copied(bytes);
    behind_held_work([&](std::uint8_t* p) { return gm_memcpy(copied.data(), p, bytes, node, other_device_.get()); },
                     [&](const std::vector<std::uint8_t>& wanted) { EXPECT_EQ(copied, wanted); });
  }
}

TEST_P(queued_transfers, fills) {
  const struct {
    int node;
    const device_stream& on;
  } cases[] = {{1, first_}, {2, other_device_}, {GM_HOST, other_device_}};
  for (const auto& each : cases) {
    SCOPED_TRACE("by node " + std::to_string(each.node));
    behind_held_work([&](std::uint8_t* p) { return gm_memset(p, 7, some_bytes, each.node, each.on.get()); },
                     [](std::vector<std::uint8_t>& wanted) {
                       std::fill(wanted.begin(), wanted.begin() + some_bytes, std::uint8_t{7});
                     });
  }
}

INSTANTIATE_TEST_SUITE_P(stress, queued_transfers, testing::ValuesIn(every_flavour(0, {tight})), flavour_name);

}  // namespace
}  // namespace gm::test
