// SPDX-License-Identifier: Apache-2.0
// static_tls.h - thread-local words of a backend that lie in the static block, so that their first use in a thread is
// no allocation, also in a signal handler that serves a fault.
//
// The block has little room for libraries that are loaded late. A backend with much thread-local memory of other
// people's in it (libcudart_static's 4 KiB) defines GMEM_DYNAMIC_TLS, and pays with that allocation.
#pragma once

#if defined(GMEM_DYNAMIC_TLS)
#define GM_STATIC_TLS
#else
#define GM_STATIC_TLS [[gnu::tls_model("initial-exec")]]
#endif
