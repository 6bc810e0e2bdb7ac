// SPDX-License-Identifier: Apache-2.0
//
// parallel.hpp - gm::parallel_for, a kernel written as a lambda.
//
//   gm::scope use(stream, gm::read_write(x));
//   float* a = gm::device_pointer(x.data(), stream);
//   gm::parallel_for(stream, x.size(), GM_LAMBDA(size_t i) { a[i] *= 2; });
//
// The body sees copies of what it captures, made by the call: pointers in it must be gm::device_pointer addresses, and
// what they point to must be within an open scope on the stream.
// A source compiled by nvcc or hipcc launches kernels on the devices of that compiler, and runs on the host for devices
// whose kernels are host code (the simulated device); compiled by a host compiler it has the latter only. On a device
// that it has no kernel for parallel_for throws UNSUPPORTED.
// nvcc needs --extended-lambda, and allows GM_LAMBDA in functions that have a name and are not private; in a header
// they must be static, or the lambda of one source calls nothing when another's copy of the function is taken.
#ifndef GMEM_PARALLEL_HPP
#define GMEM_PARALLEL_HPP

#include <gmem/gmem.h>
#include <gmem/device_launch.hpp>
#include <gmem/error.hpp>
#include <gmem/host_device.hpp>
#include <gmem/stream.hpp>

#include <concepts>
#include <cstddef>
#include <exception>
#include <memory>
#include <type_traits>
#include <utility>

namespace gm {
inline namespace v0 {

namespace detail {

// The control block of one launch: made by parallel_for, shared by the pieces, gone with finish.
template <class Body>
class host_kernel {
 public:
  explicit host_kernel(Body&& body) : body_(std::move(body)) {}

  // An exception that leaves the body ends the program, as one that leaves a std::thread's function does.
  static void run(void* kernel, std::size_t first, std::size_t last) noexcept {
    const Body& shared = static_cast<const host_kernel*>(kernel)->body_;
    try {
      if constexpr (std::is_copy_constructible_v<Body>) {
        // A copy whose address nobody has: no store of the body can change what it captured, so the captures stay in
        // registers and the loop is what a hand-written one would be. And what views in it remember is this thread's.
        const Body own = shared;
        for (std::size_t i = first; i < last; ++i) own(i);
      } else {
        for (std::size_t i = first; i < last; ++i) shared(i);
      }
    } catch (...) {
      std::terminate();  // noexcept alone does not, always: see stream.hpp
    }
  }

  static void finish(void* kernel) noexcept { delete static_cast<host_kernel*>(kernel); }

 private:
  Body body_;
};

}  // namespace detail

// Calls body(i) once for every i of [0, count), in parallel and in no order, behind the work queued on the stream; the
// host goes on meanwhile. stream: a gm::stream, a gm_stream, or nullptr for the first device, and done on return.
// count 0 is nothing to do. The body is called through const, from several threads at once, and must not throw (an
// exception that leaves it ends the program). On the host it is moved to the heap, and destroyed when the kernel is
// done; threads call copies of it, where it can be copied. A device gets a copy of its bytes, so there it must be
// trivially copyable. When the stream has failed it is destroyed and not called: the stream's synchronize() then says
// so.
// Throws gm::error: INVALID_ARGUMENT, NO_MEMORY, UNSUPPORTED (see above), DEVICE (with nullptr: the kernel failed);
// std::bad_alloc. Nothing is queued then.
template <class Body>
requires std::invocable<const Body&, std::size_t> && std::move_constructible<Body>
void parallel_for(gm_stream stream, std::size_t count, Body body) {
  if (count == 0) return;
  if (stream == nullptr) {
    gm::stream own;
    parallel_for(own.native(), count, std::move(body));
    own.synchronize();
    return;
  }
  if (detail::launch_on_device(stream, count, body)) return;
  using kernel = detail::host_kernel<Body>;
  auto block = std::make_unique<kernel>(std::move(body));
  check(gm_stream_launch(stream, count, &kernel::run, &kernel::finish, block.get()));
  static_cast<void>(block.release());  // finish has it now
}

}  // namespace v0
}  // namespace gm

#endif  // GMEM_PARALLEL_HPP
