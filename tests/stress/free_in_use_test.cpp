// SPDX-License-Identifier: Apache-2.0
// free_in_use_test.cpp - memory freed while scopes have it: free waits for nobody, nobody gets the addresses, the work
// finds its memory, and all comes back in the end.
#include "stress/queued_work.h"

namespace gm::test {
namespace {

constexpr std::size_t bytes = 2 * block_size;

class free_in_use : public queued_work {
 protected:
  // Ever new memory, and none of it where the freed is.
  static std::vector<std::uint8_t*> expect_not_given_away(const std::uint8_t* freed) {
    constexpr int others_count = 20;
    std::vector<std::uint8_t*> others;
    for (int i = 0; i < others_count; ++i) {
      auto* other = static_cast<std::uint8_t*>(gm_calloc(bytes, 1));
      EXPECT_NE(other, nullptr) << gm_last_error();
      EXPECT_TRUE(other + bytes <= freed || freed + bytes <= other) << "the addresses were given away";
      other[0] = 9;
      others.push_back(other);
    }
    gm_mapping m{};
    EXPECT_EQ(gm_query(freed, &m), GM_ERROR_NOT_MANAGED);
    return others;
  }
  static void free_all(const std::vector<std::uint8_t*>& others) {
    for (std::uint8_t* other : others) {
      EXPECT_EQ(other[0], 9);
      EXPECT_EQ(std::count(other + 1, other + page_size, 0), static_cast<std::ptrdiff_t>(page_size - 1));
      gm_free(other);
    }
  }
};

TEST_P(free_in_use, by_queued_work) {
  for (int round = 0; round < 10; ++round) {
    std::uint8_t* p = filled(bytes, 1);
    gate g;
    queue(first_, p, bytes, GM_READ_WRITE, 1, 2);
    queue(first_, p, bytes, GM_READ_WRITE, 2, 3, &g);
    gm_free(p);
    const std::vector<std::uint8_t*> others = expect_not_given_away(p);
    EXPECT_FALSE(kernels_.back()->ran.load());
    g.open();
    expect_kernels_were_right();
    free_all(others);
    expect_nothing_is_kept();
    dog_.progress();
  }
}

TEST_P(free_in_use, by_an_open_scope) {
  std::uint8_t* p = filled(bytes, 1);
  const open_scope scope = begin(first_, p, bytes, GM_READ_WRITE);
  gm_free(p);
  const std::vector<std::uint8_t*> others = expect_not_given_away(p);
  launch(scope, 1, 2);
  end(scope);
  expect_kernels_were_right();
  free_all(others);
  expect_nothing_is_kept();
}

INSTANTIATE_TEST_SUITE_P(stress, free_in_use, testing::ValuesIn(every_flavour(0, {tight})), flavour_name);

}  // namespace
}  // namespace gm::test
