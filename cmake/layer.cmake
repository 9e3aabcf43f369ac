# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# p11k_layer(NAME SOURCES... LINK ...): a static library whose headers are seen as "NAME/x.h" by
# those that link it, and by nobody else: an include that points up the layers does not compile.
function(p11k_layer name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  set(view ${CMAKE_BINARY_DIR}/include/${name})
  file(MAKE_DIRECTORY ${view})
  file(CREATE_LINK ${CMAKE_CURRENT_SOURCE_DIR} ${view}/${name} SYMBOLIC)
  add_library(p11k_${name} STATIC ${ARG_SOURCES})
  target_include_directories(p11k_${name} PUBLIC ${view})
  target_link_libraries(p11k_${name} PUBLIC ${ARG_LINK})
endfunction()
