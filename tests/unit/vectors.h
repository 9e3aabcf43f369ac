/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The test vectors of docs/FORMAT.md, in hexadecimal, made by an independent program. The tests
 * check the library against these and these against the document. */
#ifndef P11K_TESTS_VECTORS_H
#define P11K_TESTS_VECTORS_H

#define VECTOR_MASTER_KEY "404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f"
#define VECTOR_SEALING_KEY "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define VECTOR_UUID "e0e1e2e3e4e5e6e7e8e9eaebecedeeef"
#define VECTOR_IV "a0a1a2a3a4a5a6a7a8a9aaab"
#define VECTOR_PAYLOAD "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"
#define VECTOR_GCM_MASTER_ID "d0d1d2d3d4d5d6d7d8d9dadbdcdddedf"
#define VECTOR_GCM_WRAPPED                                                                         \
    "c0c1c2c3c4c5c6c7c8c9cacb5f4532cd7e9f3bec7cb02e3da7aeacc28fe44c42ca3b381fe4aa2977"             \
    "3467645975dd3e60f81e4fd02dbc8d8f790188ee"
#define VECTOR_GCM_CONTEXT                                                                         \
    "000000157031316b657972696e6720656e76656c6f706520310000000764656661756c7400000010"             \
    "e0e1e2e3e4e5e6e7e8e9eaebecedeeef000000076d61726961646200000001310000000000000004"             \
    "00000001000000076165732d636263"
#define VECTOR_GCM_ENVELOPE                                                                        \
    "5031314501010110d0d1d2d3d4d5d6d7d8d9dadbdcdddedf003cc0c1c2c3c4c5c6c7c8c9cacb5f45"             \
    "32cd7e9f3bec7cb02e3da7aeacc28fe44c42ca3b381fe4aa29773467645975dd3e60f81e4fd02dbc"             \
    "8d8f790188ee00000020a0a1a2a3a4a5a6a7a8a9aaab6699feaec14e8438eaec0d588bf74e51e03d"             \
    "cb830622d4fb0497bc1de336eb9e8fb6fe2347d95149e5359cf3d0284319"
#define VECTOR_KWP_MASTER_ID "a1b2"
#define VECTOR_KWP_WRAPPED                                                                         \
    "65718a4e84a7bb7775b944a44fdb9bc2170c0b2ea820ba7b13ba303d5b3857e794e0176fe51f2096"
#define VECTOR_KWP_ENVELOPE                                                                        \
    "5031314501010202a1b2002865718a4e84a7bb7775b944a44fdb9bc2170c0b2ea820ba7b13ba303d"             \
    "5b3857e794e0176fe51f209600000010a0a1a2a3a4a5a6a7a8a9aaab6699feaec14e8438eaec0d58"             \
    "8bf74e515c417b8e8be962842bf564043bafc779"
#define VECTOR_BOTH_ENVELOPE                                                                       \
    "5031314501020110d0d1d2d3d4d5d6d7d8d9dadbdcdddedf003cc0c1c2c3c4c5c6c7c8c9cacb5f45"             \
    "32cd7e9f3bec7cb02e3da7aeacc28fe44c42ca3b381fe4aa29773467645975dd3e60f81e4fd02dbc"             \
    "8d8f790188ee0202a1b2002865718a4e84a7bb7775b944a44fdb9bc2170c0b2ea820ba7b13ba303d"             \
    "5b3857e794e0176fe51f209600000020a0a1a2a3a4a5a6a7a8a9aaab6699feaec14e8438eaec0d58"             \
    "8bf74e51e03dcb830622d4fb0497bc1de336eb9eece7388c8973225d1dcf426283ba5ab9"
#define VECTOR_MANIFEST_KEY "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"
#define VECTOR_MANIFEST_ENVELOPE "6d616e696665737420656e76656c6f7065"
#define VECTOR_MANIFEST_BYTES                                                                      \
    "74000000157031316b657972696e67206d616e6966657374203174000000076b657972696e670162"             \
    "00000010e0e1e2e3e4e5e6e7e8e9eaebecedeeef740000000764656661756c7469000000006553f1"             \
    "000074000000086d616e69666573740169000000000000000162000000116d616e69666573742065"             \
    "6e76656c6f70650074000000076d617374657273016200000010d0d1d2d3d4d5d6d7d8d9dadbdcdd"             \
    "dedf74000000147031316b657972696e673a64656661756c743a31740000000568736d2d31690000"             \
    "00000000000169000000000000000169000000006553f1006900000000000000020074000000046b"             \
    "6579730174000000076d617269616462740000000131740000000069000000000000000069000000"             \
    "000000000169000000000000000169000000006553f10100740000000876657273696f6e73017400"             \
    "0000076d617269616462740000000131740000000069000000000000000174000000076165732d63"             \
    "626369000000006553f10162000000965031314501010110d0d1d2d3d4d5d6d7d8d9dadbdcdddedf"             \
    "003cc0c1c2c3c4c5c6c7c8c9cacb5f4532cd7e9f3bec7cb02e3da7aeacc28fe44c42ca3b381fe4aa"             \
    "29773467645975dd3e60f81e4fd02dbc8d8f790188ee00000020a0a1a2a3a4a5a6a7a8a9aaab6699"             \
    "feaec14e8438eaec0d588bf74e51e03dcb830622d4fb0497bc1de336eb9e8fb6fe2347d95149e535"             \
    "9cf3d028431900"
#define VECTOR_MANIFEST_MAC "04a802b92c03c24038ae0bc5dbfdc2bc360bd6c833a0797ec4053734f8303794"
#endif
