// SPDX-License-Identifier: Apache-2.0
//
// stream.hpp - gm::stream, a queue of device work that is done in order. Part of gmem.hpp.
//
//   gm::stream stream;          // on the first device
//   ... scopes, gm::parallel_for, prefetches: queued, and the host goes on ...
//   stream.synchronize();       // throws what went wrong in any of it
#ifndef GMEM_STREAM_HPP
#define GMEM_STREAM_HPP

#include <gmem/gmem.h>
#include <gmem/error.hpp>

#include <concepts>
#include <exception>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <type_traits>
#include <utility>

namespace gm {
inline namespace v0 {

namespace detail {

// The functions that a stream was given and has not called yet. A stream that has failed never calls them: what is
// left goes with the stream. Locking: one mutex around the list; no function runs or is destroyed under it.
class call_list {
 public:
  class call {
   public:
    call() = default;
    call(const call&) = delete;
    call& operator=(const call&) = delete;
    virtual ~call() = default;
    virtual void run() = 0;

   private:
    friend call_list;
    call_list* list_ = nullptr;
    std::list<std::unique_ptr<call>>::iterator place_;
  };

  template <class Function>
  call* add(Function&& function) {
    class closure final : public call {
     public:
      explicit closure(Function&& f) : function_(std::forward<Function>(f)) {}
      void run() override { std::invoke(std::move(function_)); }

     private:
      std::decay_t<Function> function_;
    };
    std::list<std::unique_ptr<call>> entry;
    call* added = entry.emplace_back(std::make_unique<closure>(std::forward<Function>(function))).get();
    added->list_ = this;
    added->place_ = entry.begin();
    const std::scoped_lock lock(mutex_);
    calls_.splice(calls_.end(), entry);
    return added;
  }

  void drop(call* dropped) noexcept {
    std::list<std::unique_ptr<call>> entry;  // destroyed after the lock is
    const std::scoped_lock lock(mutex_);
    entry.splice(entry.end(), calls_, dropped->place_);
  }

  // What gm_stream_call is given. An exception that leaves the function ends the program.
  static void run_and_drop(void* argument) noexcept {
    auto* running = static_cast<call*>(argument);
    try {
      running->run();
    } catch (...) {
      std::terminate();  // noexcept alone does not: g++ 12 lets an exception pass where it has inlined the call
    }
    running->list_->drop(running);
  }

 private:
  std::mutex mutex_;
  std::list<std::unique_ptr<call>> calls_;
};

}  // namespace detail

// Owns a gm_stream, and passes for one wherever a function takes it. Movable; a stream that was moved from can only be
// assigned to or destroyed. Threads: several may queue work on one stream, each call being one step of its order; one
// thread at a time may move, assign or destroy it.
class stream {
 public:
  // A new queue on that device; node 1 is the first. Throws gm::error: INVALID_ARGUMENT (no such device), NO_MEMORY,
  // DEVICE, and what starting the runtime throws when this is the first call.
  explicit stream(int node = 1) : calls_(std::make_unique<detail::call_list>()) {
    check(gm_stream_create(node, &handle_));
  }

  // A queue over a cudaStream_t or hipStream_t, which stays the program's and must outlive this object. Throws
  // gm::error: UNSUPPORTED where the node has no such streams.
  [[nodiscard]] static stream wrap(int node, void* device_stream) {
    stream wrapped{std::make_unique<detail::call_list>()};
    check(gm_stream_from_native(node, device_stream, &wrapped.handle_));
    return wrapped;
  }

  stream(stream&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)), calls_(std::move(other.calls_)) {}

  // Ends the stream that was here as the destructor does.
  stream& operator=(stream&& other) noexcept {
    stream moved(std::move(other));
    std::swap(handle_, moved.handle_);
    std::swap(calls_, moved.calls_);
    return *this;
  }

  // Waits for the stream's work. What failed in it and was not asked for by synchronize() is not reported. A stream
  // must outlive its scopes: while one is open the queue itself is kept, and lost.
  ~stream() {
    if (handle_ != nullptr && gm_stream_destroy(handle_) == GM_ERROR_BUSY) static_cast<void>(calls_.release());
  }

  // The device whose work this queues.
  [[nodiscard]] int node() const noexcept { return gm_stream_node(handle_); }

  // The handle, for the functions of gmem.h. Still owned by this object.
  [[nodiscard]] gm_stream native() const noexcept { return handle_; }
  operator gm_stream() const noexcept { return handle_; }  // NOLINT(google-explicit-constructor): meant to pass for one

  // Waits until everything queued so far is done. Throws gm::error, DEVICE, when any of it failed: once, and what was
  // queued behind the failure was not run.
  void synchronize() { check(gm_stream_synchronize(handle_)); }

  // Calls the function on a host thread, in stream order; the stream waits for its return. The function is moved or
  // copied, and destroyed after the call, or with the stream when the stream has failed and never calls it. It may
  // touch managed memory that no scope of a stream it would have to wait for covers, and must neither begin a scope
  // nor synchronize. It must not throw: an exception that leaves it ends the program (std::terminate).
  // Throws gm::error, std::bad_alloc, and what copying the function throws; nothing is queued then.
  template <class Function>
  requires std::invocable<std::decay_t<Function>> && std::constructible_from<std::decay_t<Function>, Function>
  void call(Function&& function) {
    detail::call_list::call* queued = calls_->add(std::forward<Function>(function));
    const gm_status status = gm_stream_call(handle_, &detail::call_list::run_and_drop, queued);
    if (status == GM_OK) return;
    const std::string sentence = gm_last_error();
    calls_->drop(queued);
    throw error(status, sentence);
  }

 private:
  explicit stream(std::unique_ptr<detail::call_list> calls) noexcept : calls_(std::move(calls)) {}

  gm_stream handle_ = nullptr;
  std::unique_ptr<detail::call_list> calls_;
};

}  // namespace v0
}  // namespace gm

#endif  // GMEM_STREAM_HPP
