// SPDX-License-Identifier: Apache-2.0
// What holds the precompiled header of the test suites; tests/CMakeLists.txt.
