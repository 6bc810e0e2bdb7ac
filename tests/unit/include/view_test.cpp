// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <gmem/gmem.hpp>
#include <gmem/parallel.hpp>
#include <gmem/view.hpp>
#include <numeric>
#include <span>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

constexpr std::size_t page_bytes = 64 * 1024;

// What compiles and what must not.
template <class V>
concept assignable = requires(const V& v) {
  v[0] = 1;
};
static_assert(assignable<gm::view<int>>);
static_assert(!assignable<gm::view<const int>>, "what is const is not written");
static_assert(std::is_same_v<decltype(std::declval<gm::view<const int>>()[0]), int>, "a value, not a reference");
static_assert(std::is_trivially_copyable_v<gm::view<int>>, "kernels get copies of its bytes");
static_assert(std::is_same_v<decltype(gm::view(std::declval<const gm::scope&>(), std::declval<gm::vector<int>&>())),
                             gm::view<int>>);
static_assert(
    std::is_same_v<decltype(gm::view(std::declval<const gm::scope&>(), std::declval<const gm::vector<int>&>())),
                   gm::view<const int>>);

struct quad {
  std::uint32_t a, b, c, d;
  bool operator==(const quad&) const = default;
};

std::uint64_t faults(int node) { return gm::stats().node[node].faults; }

// The error that the call ends in.
std::pair<gm_status, std::string> error_of(const auto& call) {
  try {
    call();
  } catch (const gm::error& failure) {
    return {failure.status(), failure.what()};
  }
  return {GM_OK, ""};
}

bool says(const std::pair<gm_status, std::string>& error, gm_status status, const std::string& words) {
  return error.first == status && error.second.find(words) != std::string::npos;
}

class view_test : public testing::Test {
 protected:
  gm::stream stream{1};
};

// One lane does all of it: what one thread does is in order.
template <class F>
void in_a_kernel(const gm::stream& on, F work) {
  gm::parallel_for(on, 1, [=](std::size_t) { work(); });
}

TEST_F(view_test, elements_are_read_and_written) {
  gm::vector<int> x(3 * page_bytes / sizeof(int));
  std::iota(x.begin(), x.end(), 0);
  {
    gm::scope use(stream, gm::on_demand(x));
    const gm::view<int> v(use, x);
    EXPECT_EQ(v.size(), x.size());
    gm::parallel_for(stream, x.size(), [=](std::size_t i) { v[i] = 2 * v[i] + 1; });
  }
  stream.synchronize();
  for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(x[i], 2 * static_cast<int>(i) + 1) << i;
}

TEST_F(view_test, an_element_has_the_operators_of_a_number) {
  gm::vector<int> x(16, 10);
  {
    gm::scope use(stream, gm::on_demand(x));
    const gm::view<int> v(use, x);
    in_a_kernel(stream, [=] {
      v[0] += 5;
      v[1] -= 4;
      v[2] *= 3;
      v[3] = v[4];
      v[4] = 7;
      v[5] = v[6] = v[4];
      v[7] = static_cast<int>(v[0]) + v[1].load();
    });
  }
  stream.synchronize();
  EXPECT_EQ((std::vector<int>(x.begin(), x.begin() + 9)), (std::vector<int>{15, 6, 30, 10, 7, 7, 7, 21, 10}));
}

TEST_F(view_test, atomic_operations_lose_nothing) {
  constexpr std::size_t adds = 20'000;
  gm::vector<std::uint64_t> sums(4);
  gm::vector<float> floats(1);
  gm::vector<std::uint32_t> words(1);
  {
    gm::scope use(stream, gm::on_demand(sums), gm::on_demand(floats), gm::on_demand(words));
    const gm::view<std::uint64_t> v(use, sums);
    const gm::view<float> f(use, floats);
    const gm::view<std::uint32_t> w(use, words);
    gm::parallel_for(stream, adds, [=](std::size_t i) {
      v[i % 4].fetch_add(i);
      f[0].fetch_add(1.0f);
      std::uint32_t seen = w[0];
      while (!w[0].compare_exchange(seen, seen + 1)) seen = w[0];
    });
  }
  stream.synchronize();
  EXPECT_EQ(sums[0] + sums[1] + sums[2] + sums[3], adds * (adds - 1) / 2);
  EXPECT_EQ(floats[0], static_cast<float>(adds));
  EXPECT_EQ(words[0], adds);
}

TEST_F(view_test, atomic_operations_return_what_was_there) {
  gm::vector<std::int64_t> x(2, -5);
  gm::vector<int> answers(4);
  {
    gm::scope use(stream, gm::on_demand(x), gm::on_demand(answers));
    const gm::view<std::int64_t> v(use, x);
    const gm::view<int> a(use, answers);
    in_a_kernel(stream, [=] {
      a[0] = static_cast<int>(v[0].fetch_add(-2));
      a[1] = static_cast<int>(v[0].fetch_add(0));
      a[2] = v[1].compare_exchange(-5, 9) ? 1 : 2;
      a[3] = v[1].compare_exchange(-5, 10) ? 1 : 2;
    });
  }
  stream.synchronize();
  EXPECT_EQ((std::vector<int>(answers.begin(), answers.end())), (std::vector<int>{-5, -7, 1, 2}));
  EXPECT_EQ(x[1], 9);
}

TEST_F(view_test, structs_and_small_numbers_are_elements_too) {
  gm::vector<quad> quads(page_bytes / sizeof(quad) + 3, quad{1, 2, 3, 4});
  gm::vector<std::uint8_t> bytes(page_bytes + 5, std::uint8_t{7});
  gm::vector<std::uint16_t> halves(page_bytes / 2 + 5, std::uint16_t{8});
  gm::vector<double> doubles(page_bytes / 8 + 5, 0.5);
  {
    gm::scope use(stream, gm::on_demand(quads), gm::on_demand(bytes), gm::on_demand(halves), gm::on_demand(doubles));
    const gm::view<quad> q(use, quads);
    const gm::view<std::uint8_t> b(use, bytes);
    const gm::view<std::uint16_t> h(use, halves);
    const gm::view<double> d(use, doubles);
    gm::parallel_for(stream, quads.size(), [=](std::size_t i) {
      const quad was = q[i];
      q[i] = quad{was.d, was.c, was.b, static_cast<std::uint32_t>(i)};
    });
    gm::parallel_for(stream, bytes.size(), [=](std::size_t i) { b[i] = static_cast<std::uint8_t>(b[i] + i); });
    gm::parallel_for(stream, halves.size(), [=](std::size_t i) { h[i] += static_cast<std::uint16_t>(i); });
    gm::parallel_for(stream, doubles.size(), [=](std::size_t i) { d[i] *= static_cast<double>(i); });
  }
  stream.synchronize();
  for (std::size_t i = 0; i < quads.size(); ++i)
    ASSERT_EQ(quads[i], (quad{4, 3, 2, static_cast<std::uint32_t>(i)})) << i;
  for (std::size_t i = 0; i < bytes.size(); ++i) ASSERT_EQ(bytes[i], static_cast<std::uint8_t>(7 + i)) << i;
  for (std::size_t i = 0; i < halves.size(); ++i) ASSERT_EQ(halves[i], static_cast<std::uint16_t>(8 + i)) << i;
  for (std::size_t i = 0; i < doubles.size(); ++i) ASSERT_EQ(doubles[i], 0.5 * static_cast<double>(i)) << i;
}

TEST_F(view_test, a_view_begins_and_ends_inside_pages) {
  gm::vector<int> x(4 * page_bytes / sizeof(int), -1);
  const std::size_t first = page_bytes / sizeof(int) - 3;
  const std::size_t count = 2 * page_bytes / sizeof(int) + 5;
  {
    const std::span<int> part(x.data() + first, count);
    gm::scope use(stream, gm::on_demand(part));
    const gm::view<int> v(use, part);
    gm::parallel_for(stream, v.size(), [=](std::size_t i) { v[i] = static_cast<int>(i); });
  }
  stream.synchronize();
  for (std::size_t i = 0; i < x.size(); ++i)
    ASSERT_EQ(x[i], i < first || i >= first + count ? -1 : static_cast<int>(i - first)) << i;
}

TEST_F(view_test, views_of_parts_of_a_scopes_range) {
  gm::vector<int> x(2 * page_bytes / sizeof(int));
  {
    gm::scope use(stream, gm::on_demand(x));
    const std::size_t half = x.size() / 2 + 7;
    const gm::view<int> head(use, x.data(), half);
    const gm::view<int> tail(use, x.data() + half, x.size() - half);
    const gm::view<const int> all(use, x.data(), x.size());
    gm::parallel_for(stream, x.size(), [=](std::size_t i) {
      if (i < head.size())
        head[i] = 1 + all[i];
      else
        tail[i - head.size()] = 2 + all[i];
    });
    EXPECT_EQ(head.size() + tail.size(), all.size());
  }
  stream.synchronize();
  EXPECT_EQ(std::accumulate(x.begin(), x.end(), std::size_t{0}), 2 * x.size() - (x.size() / 2 + 7));
}

TEST_F(view_test, spans_come_a_page_at_a_time_and_in_order) {
  gm::vector<int> x(4 * page_bytes / sizeof(int));
  struct spans_seen {
    std::vector<std::pair<std::size_t, std::size_t>> spans;
    void see(std::size_t first, std::size_t size) { spans.emplace_back(first, size); }
  } whole, part, none;
  const std::size_t skipped = 100;  // elements: the view does not begin with a page
  {
    const std::span<int> most(x.data() + skipped, x.size() - skipped);
    gm::scope use(stream, gm::on_demand(most));
    const gm::view<int> v(use, most);
    in_a_kernel(stream, [=, &whole, &part, &none] {
      for (const auto& span : v.pages()) {
        whole.see(span.first(), span.size());
        for (std::size_t i = 0; i < span.size(); ++i) span[i] = static_cast<int>(span.first() + i);
      }
      for (const auto& span : v.pages(page_bytes / 4 - 1, 2 * page_bytes / 4 + 1)) {
        part.see(span.first(), span.size());
        for (int& each : span) each = -each;
      }
      for (const auto& span : v.pages(5, 5)) none.see(span.first(), span.size());
    });
  }
  stream.synchronize();
  const std::size_t a_page = page_bytes / sizeof(int);
  using all = std::vector<std::pair<std::size_t, std::size_t>>;
  EXPECT_EQ(whole.spans, (all{{0, a_page - skipped},
                              {a_page - skipped, a_page},
                              {2 * a_page - skipped, a_page},
                              {3 * a_page - skipped, a_page}}));
  EXPECT_EQ(part.spans, (all{{a_page - 1, a_page - skipped + 1}, {2 * a_page - skipped, skipped + 1}}));
  EXPECT_TRUE(none.spans.empty());
  for (std::size_t i = 0; i < x.size() - skipped; ++i) {
    const bool negated = i >= a_page - 1 && i < 2 * a_page + 1;
    ASSERT_EQ(x[skipped + i], negated ? -static_cast<int>(i) : static_cast<int>(i)) << i;
  }
}

TEST_F(view_test, a_loop_over_spans_may_be_left) {
  gm::vector<int> x(3 * page_bytes / sizeof(int));
  {
    gm::scope use(stream, gm::on_demand(x));
    const gm::view<int> v(use, x);
    in_a_kernel(stream, [=] {
      for (const auto& span : v.pages()) {
        span[0] = 1;
        if (span.first() != 0) break;
      }
    });
  }
  stream.synchronize();
  // Nothing is pinned any more: the CPU gets all pages.
  const std::size_t a_page = page_bytes / sizeof(int);
  x[1] = 2;
  EXPECT_EQ(x[0] + x[a_page] + x[2 * a_page], 2);
}

TEST_F(view_test, a_scope_may_have_declared_ranges_beside_those_on_demand) {
  gm::vector<int> x(2 * page_bytes / sizeof(int), 3);
  gm::vector<int> y(page_bytes / sizeof(int), 4);
  {
    gm::scope use(stream, gm::on_demand(x), gm::read_write(y));
    const gm::view<int> v(use, x);
    const gm::view<int> w(use, y);
    int* const raw = gm::device_pointer(y.data(), stream);
    in_a_kernel(stream, [=] {
      v[0] = w[1] + 1;
      w[0] = 9;
      w[2].fetch_add(5);
      raw[3] = v[1];
      for (const auto& span : w.pages(4, 6))
        for (int& each : span) each = 8;
    });
  }
  stream.synchronize();
  EXPECT_EQ(x[0], 5);
  EXPECT_EQ((std::vector<int>(y.begin(), y.begin() + 7)), (std::vector<int>{9, 4, 9, 3, 8, 8, 4}));
}

TEST_F(view_test, reading_leaves_the_cpu_its_pages) {
  gm::vector<std::uint32_t> x(8 * page_bytes / 4);
  std::iota(x.begin(), x.end(), 0u);
  gm::vector<std::uint32_t> sum(1);
  const gm::vector<std::uint32_t>& only_read = x;
  {
    gm::scope use(stream, gm::on_demand(only_read), gm::on_demand(sum));
    const gm::view v(use, only_read);
    const gm::view<std::uint32_t> s(use, sum);
    gm::parallel_for(stream, v.size(), [=](std::size_t i) {
      if (i % 97 == 0) s[0].fetch_add(v[i]);
    });
  }
  stream.synchronize();
  const std::uint64_t before = faults(GM_HOST);
  std::uint32_t expected = 0;
  for (std::size_t i = 0; i < x.size(); i += 97) expected += std::as_const(x)[i];
  EXPECT_EQ(faults(GM_HOST), before) << "the CPU lost pages that were only read";
  EXPECT_EQ(sum[0], expected);
  for (std::size_t i = 0; i < x.size(); i += page_bytes / 4) {
    const gm_mapping m = gm::query(&x[i]);
    EXPECT_EQ(m.valid_nodes, 0b11u) << "page " << i * 4 / page_bytes;
    EXPECT_EQ(m.flags & GM_PAGE_DIRTY, 0u);
    EXPECT_EQ(m.writer, -1);
  }
}

TEST_F(view_test, what_nobody_wrote_reads_as_zero) {
  gm::vector<int> out(1, 5);
  const gm::unique_ptr<int[]> untouched = gm::make_unique_for_overwrite<int[]>(page_bytes);
  {
    const std::span<const int> all(untouched.get(), page_bytes);
    gm::scope use(stream, gm::on_demand(all), gm::on_demand(out));
    const gm::view<const int> v(use, all);
    const gm::view<int> o(use, out);
    in_a_kernel(stream, [=] { o[0] = v[0] + v[page_bytes - 1]; });
  }
  stream.synchronize();
  EXPECT_EQ(out[0], 0);
}

TEST_F(view_test, the_cpu_uses_the_pages_beside_the_kernel) {
  gm::vector<std::uint32_t> x(2 * page_bytes / 4);
  std::atomic<bool> over{false};
  gm::scope use(stream, gm::on_demand(x));
  const gm::view<std::uint32_t> v(use, x);
  gm::parallel_for(stream, 1, [=, &over](std::size_t) {
    while (!over) v[1].fetch_add(1);
  });
  std::uint32_t last = 0;
  for (std::uint32_t i = 0; i < 200; ++i) {
    std::atomic_ref(x[0]).store(i);
    const std::uint32_t counted = std::atomic_ref(x[1]).load();
    EXPECT_GE(counted, last);
    last = counted;
  }
  over = true;
  use.end();
  stream.synchronize();
  EXPECT_EQ(x[0], 199u);
  EXPECT_GE(x[1], last);
}

TEST_F(view_test, two_devices_at_once) {
  gm::stream other(2);
  constexpr std::size_t count = 4 * page_bytes / 4;
  gm::vector<std::uint32_t> x(count);
  {
    gm::scope use(stream, gm::on_demand(x));
    gm::scope there(other, gm::on_demand(x));
    const gm::view<std::uint32_t> v(use, x);
    const gm::view<std::uint32_t> w(there, x);
    gm::parallel_for(stream, count / 2, [=](std::size_t i) { v[2 * i] = static_cast<std::uint32_t>(i); });
    gm::parallel_for(other, count / 2, [=](std::size_t i) { w[2 * i + 1] = static_cast<std::uint32_t>(i); });
  }
  stream.synchronize();
  other.synchronize();
  for (std::size_t i = 0; i < count; ++i) ASSERT_EQ(x[i], i / 2) << i;
}

TEST_F(view_test, an_empty_view_asks_for_nothing) {
  gm::vector<int> empty;
  gm::vector<int> x(1);
  gm::scope use(stream, gm::on_demand(x), gm::on_demand(empty));
  const gm::view<int> v(use, empty);
  EXPECT_EQ(v.size(), 0u);
  EXPECT_EQ(gm::view<int>().size(), 0u);
  EXPECT_EQ(gm::view<int>(use, nullptr, 0).size(), 0u);
  in_a_kernel(stream, [=] {
    for (const auto& span : v.pages()) span[0] = 1;
  });
  use.end();
  stream.synchronize();
}

// ---- What is refused ----

TEST_F(view_test, memory_that_the_scope_does_not_have) {
  gm::vector<int> x(page_bytes);
  gm::vector<int> other(page_bytes);
  std::vector<int> ordinary(4);
  gm::scope use(stream, gm::on_demand(x.data(), 100));
  EXPECT_TRUE(says(error_of([&] { gm::view<int>(use, ordinary); }), GM_ERROR_NOT_MANAGED, ""));
  EXPECT_TRUE(says(error_of([&] { gm::view<int>(use, other); }), GM_ERROR_NOT_MANAGED, "scope's ranges"));
  EXPECT_TRUE(says(error_of([&] { gm::view<int>(use, x.data(), 101); }), GM_ERROR_NOT_MANAGED, "404 bytes"));
  EXPECT_TRUE(says(error_of([&] { gm::view<int>(use, x.data() + 1, 100); }), GM_ERROR_NOT_MANAGED, ""));
  EXPECT_TRUE(says(error_of([&] { gm::view<int>(use, nullptr, 4); }), GM_ERROR_INVALID_ARGUMENT, ""));
  EXPECT_EQ(gm::view<int>(use, x.data(), 100).size(), 100u);
  use.end();
  EXPECT_TRUE(says(error_of([&] { gm::view<int>(use, x.data(), 100); }), GM_ERROR_INVALID_ARGUMENT, "scope is null"));
}

TEST_F(view_test, memory_that_was_freed) {
  auto x = gm::make_unique_for_overwrite<int[]>(page_bytes);
  int* const gone = x.get();
  gm::scope use(stream, gm::on_demand(gone, page_bytes));
  x.reset();
  EXPECT_TRUE(says(error_of([&] { gm::view<int>(use, gone, page_bytes); }), GM_ERROR_NOT_MANAGED, ""));
}

TEST_F(view_test, writing_what_the_scope_only_reads) {
  gm::vector<int> x(page_bytes);
  gm::scope use(stream, gm::on_demand(std::as_const(x)));
  EXPECT_TRUE(says(error_of([&] { gm::view<int>(use, x); }), GM_ERROR_INVALID_ARGUMENT, "gm::view<const T>"));
  EXPECT_EQ(gm::view<const int>(use, x.data(), x.size()).size(), x.size());
}

TEST_F(view_test, elements_that_straddle_words) {
  gm::vector<std::uint8_t> x(page_bytes);
  gm::scope use(stream, gm::on_demand(x));
  auto* const odd = reinterpret_cast<std::uint32_t*>(x.data() + 2);
  EXPECT_TRUE(says(error_of([&] { gm::view<std::uint32_t>(use, odd, 4); }), GM_ERROR_INVALID_ARGUMENT, "4 bytes"));
  auto* const half = reinterpret_cast<quad*>(x.data() + 8);
  EXPECT_TRUE(says(error_of([&] { gm::view<quad>(use, half, 4); }), GM_ERROR_INVALID_ARGUMENT, "16 bytes"));
}

TEST_F(view_test, the_c_call_refuses_nulls) {
  gm::vector<int> x(4);
  gm::scope use(stream, gm::on_demand(x));
  gm_view_data data;
  EXPECT_EQ(gm_view_get(nullptr, x.data(), 16, &data), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_view_get(use.native(), x.data(), 16, nullptr), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_view_get(use.native(), x.data(), 0, &data), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_view_get(use.native(), nullptr, 16, &data), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_view_get(use.native(), x.data(), 16, &data), GM_OK);
  EXPECT_EQ(data.bytes, 16u);
  EXPECT_EQ(data.may_write, 1);
}

}  // namespace
