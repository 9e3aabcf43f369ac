# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# The OpenSSL provider; a second copy, built without its guard, shows what the guard is for.
set(modules ${CMAKE_LIBRARY_OUTPUT_DIRECTORY}/ossl-modules)
set(modules_no_guard ${CMAKE_CURRENT_BINARY_DIR}/ossl-modules-no-guard)
p11k_openssl_provider(p11k_ossl_no_guard ${modules_no_guard} P11K_TEST_NO_GUARD)

# p11k_ossl_test(NAME MODULE DIR SOURCES...): a test of the p11keyring.so in DIR.
function(p11k_ossl_test name module dir)
  p11k_test(${name} SOURCES ${ARGN} LINK PkgConfig::OPENSSL Threads::Threads)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_compile_definitions(${name} PRIVATE P11K_OSSL_TEST_MODULES="${dir}")
  add_dependencies(${name} ${module})
endfunction()

p11k_ossl_test(test_ossl_passthrough p11k_ossl ${modules} test_ossl_passthrough.c ossl_fixture.c)
p11k_ossl_test(test_ossl_provider p11k_ossl ${modules} test_ossl_provider.c ossl_fixture.c)
p11k_ossl_test(test_ossl_registration p11k_ossl ${modules} test_ossl_registration.c ossl_fixture.c)
p11k_ossl_test(test_ossl_attack p11k_ossl ${modules} test_ossl_attack.c ossl_fixture.c)
p11k_ossl_test(test_ossl_attack_no_guard p11k_ossl_no_guard ${modules_no_guard}
               test_ossl_attack.c ossl_fixture.c)
target_compile_definitions(test_ossl_attack_no_guard PRIVATE P11K_TEST_NO_GUARD)
