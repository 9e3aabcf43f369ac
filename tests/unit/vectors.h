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
#define VECTOR_RSA_P                                                                               \
    "dc0229a123a23532fd76ec72ebf18c886842e1f3561710d8441385a4848a5cdbfc5e0ef1b25de764"             \
    "555ecad409c2b6dc141d7140aaa202f7fbe3c6a2c72b2e6e808d7602d99dbae1da433779e8a9c060"             \
    "c9df75b65db58430c12c9f38e8f9d14f49d74b06df77b6b143d6f8098a1cff08feb3f149827404f2"             \
    "44c611ab74f2679c8ea972255adce09625d27a5786ad3b45269fb6867a475560bb4f708000cba388"             \
    "7f76cd12dc5a82863a515e64aca070547c98cf2f268263f3a8e0767831e35487"
#define VECTOR_RSA_Q                                                                               \
    "b8bb3d56e6b52785a5e762136018b63fa8273a5bdb5999602ddbc6cf6205c536fb2d2e83186ab681"             \
    "bf06eb028e211b7599b8b13ccb3139a712478a2a4231978d93f6efd099c10d622adfeec30af35e9c"             \
    "9e66ff206c4d8a53bab95fd6cb97f18c56f234706416dd9a521495ca464a32d7ab78980204375f45"             \
    "5bc1b9eb958e5ce683b268d26c672055711e0bb8c7b121da7a12e787206e44bc49ea59d6fbcf0076"             \
    "734ddfc282e1947c1723af9340fe97b741fb57ec5e6d734cb61afd3881964d33"
#define VECTOR_RSA_SHA256_WRAPPED                                                                  \
    "01800d09d39ee674f6d38af14241e8178873511771acd0bca7ccae834cb90d886b22b4c46827d6fe"             \
    "65cb4448712d2e3cda12dda5d4f6ea56ea2e0c0eebd0400629be4f3f119d1a70e51b2143911c0775"             \
    "cf72ab856a296ea81372a8f66e0d5222ca45fb2243f7a025cad74faef971d669b9bed74ac0429556"             \
    "5ba3644b96971ac55c44081194c30c717690424411ad4a55e399a695964c035ebadbf79dd21ee72a"             \
    "24f2297167445da0785374580b914d90251a721f1e2b9a6498848ee279cb0afb6320dd0352f22b53"             \
    "5db177e4962376142c6bb49f9741adaf2b3902b162a54399be1b37134a96ec8358fc86993f5ace73"             \
    "a1f621ecf01727ea2a22aab16dfa0cd49270bc3e145cd3a6b6cd89d38b88472035377750cf2b80af"             \
    "ad15107cf0fd1d1e19379262a7995fc8b6a228d586ef1803f6b225fa5306e0145590b387705366f4"             \
    "0ac5f707ba813e8c477ae5bba93ff369c5675f60f7e32bb5bbcef66cb9df8159b23ecf9d8eddd7f2"             \
    "e4aab89538765be281809889c02ad46763ccff9969edaf480c035dcf179c630059c77bbba9b50a19"             \
    "e153bbd14b4b4a3fca3ce8e34fce32872664cda59c79e0a7dcd4f1d87763f9e2c82e9d7bdfb917b3"             \
    "a2c2d5bfa25b4365beb0c1a6ff39e64866b8efe2d57d1ecec6e60d9154c64087d608955daf0df3a2"             \
    "af1a199281e2be10f6884879dd605618c2cbb38ea34c0bdce0659cc802135e3b0c27f94893c539cf"             \
    "f74ab6dbee6fea35853c7e8d11a4dfb21e670771ad6730159cb81b69f3d873e032fa1ea66725016b"             \
    "e9563aada37b21772cece24582da298f8f9fe07493fe9a3549fbcfa4064adabb774731a30fff38c2"             \
    "a1b73a0a88a2a6c40fd93aeb7a8f4db208f1dd1f1b80b68f6cbb94f8e2662ffe2d7d9916fca75d0f"             \
    "8f09ba280ead368696a8f4cb00a613be104b535d909bd5afeb7b8b290d8e2316ba1fe46b03555d76"             \
    "6e42adcd7ad625121edeaf76dcbecd2eabb22c8492870f225d2b16b1582d23d484d1ccc2a590ef4e"             \
    "c1c74df235fe58052ae56f775c0d73a7602f092efdbd2aecf5d1a11a88132e1c9d146ec153ad3eca"             \
    "a26f1ae7aab2940a0cc0"
#define VECTOR_RSA_SHA1_WRAPPED                                                                    \
    "01806f4e3642e1a46e249f1cdcf3f510789948fac904d7fd599c31e3c472b9112f45cd9557c773e2"             \
    "b7aa0f33092d21ab2c3194f4ed0cf58a42a26092bc1ddfb3c46b1664b9705ea3869a0971b54061d1"             \
    "ddf2655a217fc782c50fade299a323c89c579d354f109089c9f6adea3094d04eabeaa2ba4f6db68c"             \
    "85fcd4ad5fdf58e9d3caeac659b2e1db41631355178baff220ac56f397a9d9b8248773ba42bdbd95"             \
    "847c84b737394b0b87af5ea430a32630f8fdf953791325d1f85a2aeb2cbd179b8dd260b62cf31bd3"             \
    "3ce5845095d4228cc751e9f722954cda58be930cb495dcae8b2e545c4b62947c80df8dc6279f5908"             \
    "4de36c4fe92825c0448b0a51691b2554c96114aa1711926763974f6d2f95cb5e4d22ec2e72b88708"             \
    "5d0ae35a61bd68a946a92e0aa20afd9bdc3f7a1815b9ec41c235e02420c3f4368e72423d829e38eb"             \
    "4844063c985ddd858f86c3699efc3f7002c894af68d3b648b5379efc471e1982c13b90a33f60f7d2"             \
    "4d9dc5cedd2ae039d94f05e3d9a9e16bf569c4304e70ab91edd479ea1de796d81fbb7f94f5daca8f"             \
    "24b998c7b857e85b53e2992fcf4f17caf690a12ee06726f8ec282b838f5e190d1d9400b6b722480a"             \
    "ccc698d12372c6adb3c542c59051836cae4ac7d57cb2fbd6109382c672d9f0308b3ff2dddb6bc9bb"             \
    "d311fdc253036a96e4b7925eba78964dff4b3c2ec27308b504fa426bf8ae1a658413ee792289f89b"             \
    "2a0f478c4e2a6de5305494de8095831640ecb3d5f094e58baaba542e906f8bcbfd4f2c332ab1ffe7"             \
    "d476e0910fcca2bf9fcb863b13a913dcd2c3368bd6ca29fbf8acff6c84e8efa88e163bae9d0daece"             \
    "db98c51cb61d95fa500a4c3bf35a5af44d94ce1a8136f2aeb7b4adbccf7e5a0653356aea9f34550c"             \
    "8a58b7ce676c5405ddb6b904801c464b2626a65f1cbdba288aef6006a920b5dfd2bb91fe0d8280c3"             \
    "251614b87517a011a081e26b75caf2418fb8832315abc5b982096a1ab7d8f5874dd7b9a0e464d06a"             \
    "5df1b02a1f6d52ac1176b4741a4f124745b68dd9ff9e3dab903dacc8d605ebd27f83965bdf7e6084"             \
    "9a9956b7e34e53f16e87"
#define VECTOR_AUDIT_LINE                                                                          \
    "7b226163746f72223a7b22706964223a343731312c2270726f6772616d223a227031316b65797269"             \
    "6e67222c22756964223a3939397d2c226576656e74223a226b65792d726f74617465222c22666f72"             \
    "6d6174223a312c2267656e65726174696f6e223a312c2268617368223a2231663935383631386333"             \
    "34383033336531623338383563663833326563373035383034623936666132366432373738373130"             \
    "3465616233393465343963303463222c226964223a2231222c226b657972696e67223a2264656661"             \
    "756c74222c226e616d657370616365223a226d617269616462222c226f7574636f6d65223a226f6b"             \
    "222c2270726576223a22303030303030303030303030303030303030303030303030303030303030"             \
    "30303030303030303030303030303030303030303030303030303030303030303030222c22736571"             \
    "223a312c2274696d65223a22323032362d30312d33315431323a30303a30302e3030305a222c2276"             \
    "657273696f6e223a317d"
#define VECTOR_AUDIT_HASH "1f958618c348033e1b3885cf832ec705804b96fa26d27787104eab394e49c04c"
#define VECTOR_MANIFEST_KEY "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"
#define VECTOR_MANIFEST_ENVELOPE "6d616e696665737420656e76656c6f7065"
#define VECTOR_MANIFEST_BYTES                                                                      \
    "74000000157031316b657972696e67206d616e6966657374203174000000076b657972696e670162"             \
    "00000010e0e1e2e3e4e5e6e7e8e9eaebecedeeef740000000764656661756c7469000000006553f1"             \
    "000074000000086d616e69666573740169000000000000000162000000116d616e69666573742065"             \
    "6e76656c6f706569000000000000000162000000201f958618c348033e1b3885cf832ec705804b96"             \
    "fa26d27787104eab394e49c04c0074000000076d617374657273016200000010d0d1d2d3d4d5d6d7"             \
    "d8d9dadbdcdddedf74000000147031316b657972696e673a64656661756c743a3174000000056873"             \
    "6d2d3169000000000000000169000000000000000169000000006553f10069000000000000000200"             \
    "74000000046b6579730174000000076d617269616462740000000131740000000069000000000000"             \
    "000069000000000000000169000000000000000169000000006553f1010074000000087665727369"             \
    "6f6e730174000000076d617269616462740000000131740000000069000000000000000174000000"             \
    "076165732d63626369000000006553f10162000000965031314501010110d0d1d2d3d4d5d6d7d8d9"             \
    "dadbdcdddedf003cc0c1c2c3c4c5c6c7c8c9cacb5f4532cd7e9f3bec7cb02e3da7aeacc28fe44c42"             \
    "ca3b381fe4aa29773467645975dd3e60f81e4fd02dbc8d8f790188ee00000020a0a1a2a3a4a5a6a7"             \
    "a8a9aaab6699feaec14e8438eaec0d588bf74e51e03dcb830622d4fb0497bc1de336eb9e8fb6fe23"             \
    "47d95149e5359cf3d028431900"
#define VECTOR_MANIFEST_MAC "95a93be857b5b31a1bdd894aeaf27bd6268f748edb6a70b24ab90831acc744a3"
#define VECTOR_PAGE_GIVEN "101112131415161718191a1b1c1d1e1f"
#define VECTOR_PAGE_IV "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"
#define VECTOR_PAGE_TEXT                                                                           \
    "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f4041424344"
#define VECTOR_PAGE_KEY "d3c7508943261709f09d22b76f5a3676117bb419ff390031c8f3cc3ec187dc2d"
#define VECTOR_PAGE_LOG_KEY "7e8964820f4403301add2789f0e4c04c40008dbe81b00228bd8f1a0167527718"
#define VECTOR_PAGE_CBC "eec2500170710c6ebdfbcb064b03d93bba3eddfd71d245d4a8e3e61354e87df34dfe75e1a9"
#define VECTOR_PAGE_CBC_PADDED                                                                     \
    "eec2500170710c6ebdfbcb064b03d93bba3eddfd71d245d4a8e3e61354e87df3af3ed9d20c94784a"             \
    "e580e25b35a6dd1f"
#define VECTOR_PAGE_CTR "2d9e1581c957cb2c5b5e53b530443bf270457b35ab7cb5080333b41455cdfbb51f90518089"
#define VECTOR_PAGE_GCM                                                                            \
    "6fc27d9ac0b64744b2c1e88674654432511fa59d4c8c73584af6de1aa54d3ad1b2311f12d083b90a"             \
    "cd6c8d2c8e2e470fac24831770"
#endif
