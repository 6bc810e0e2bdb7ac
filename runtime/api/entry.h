// SPDX-License-Identifier: Apache-2.0
// entry.h - what every function of the C interface begins and ends with.
#pragma once

#include "api/runtime.h"
#include "api/scope_record.h"

namespace gm {

// The status that a call returns when current() is null: it has set the sentence, and this finds the status again.
gm_status not_running();

inline gm_status to_c(status s) { return static_cast<gm_status>(s); }

// nodes: 0 .. nodes - 1; devices only where host is false.
status check_node(const runtime&, int node, bool host);

// begin and end at once: what is queued between is done by then, or is ordered by the stream.
template <typename F>
status within_scope(runtime& rt, scope_request&& request, F&& work) {
  const bool own_late = request.own_late;
  scope_record* s = nullptr;
  if (const status begun = scope_record::begin(rt, std::move(request), &s); begun != status::ok) return begun;
  const status worked = work(*s);
  if (worked == status::ok && own_late) s->own_pages();
  const status ended = scope_record::end(s);
  return worked != status::ok ? worked : ended;
}

}  // namespace gm
