// SPDX-License-Identifier: Apache-2.0
// An index past the end, as builds without NDEBUG have it. The element types are this source's own: so are, then, the
// views of them, beside those of sources compiled with NDEBUG.
#undef NDEBUG
#include <gtest/gtest.h>

#include <gmem/gmem.hpp>
#include <gmem/parallel.hpp>
#include <gmem/view.hpp>

namespace {

struct number {
  int value;
};

// In the child of a death test: a runtime of its own, with the parent's environment.
void index_in_a_kernel(std::size_t index) {
  gm::stream stream(1);
  gm::vector<number> x(5);
  gm::scope use(stream, gm::on_demand(x));
  const gm::view<number> v(use, x);
  gm::parallel_for(stream, 1, [=](std::size_t) { v[index] = number{1}; });
  use.end();
  stream.synchronize();
}

void pages_in_a_kernel(std::size_t first, std::size_t last) {
  gm::stream stream(1);
  gm::vector<number> x(5);
  gm::scope use(stream, gm::on_demand(x));
  const gm::view<const number> v(use, x.data(), x.size());
  gm::parallel_for(stream, 1, [=](std::size_t) {
    for (const auto& span : v.pages(first, last)) (void)span.size();
  });
  use.end();
  stream.synchronize();
}

TEST(view_index_death, an_index_past_the_end_is_said_and_ends_the_program) {
  EXPECT_DEATH(index_in_a_kernel(5), "index 5 of a view of 5 elements");
  EXPECT_DEATH(index_in_a_kernel(static_cast<std::size_t>(-1)), "index 18446744073709551615 of a view of 5 elements");
}

TEST(view_index_death, so_are_spans_past_the_end_or_turned_round) {
  EXPECT_DEATH(pages_in_a_kernel(0, 6), "index 6 of a view of 5 elements");
  EXPECT_DEATH(pages_in_a_kernel(4, 3), "index 4 of a view of 5 elements");
}

TEST(view_index, the_last_element_and_the_end_of_the_spans_are_inside) {
  index_in_a_kernel(4);
  pages_in_a_kernel(0, 5);
  pages_in_a_kernel(5, 5);
}

}  // namespace
