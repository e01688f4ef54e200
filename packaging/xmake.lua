-- For programs that are built with xmake: in xmake.lua
--
--     includes("kalm_rerank/packaging")
--     target("app")
--         add_deps("kalm_rerank")
--
-- The target is the compiled library, with the header's folder and what it links with.
set_xmakever("2.7.0")
set_version("0.1.0")

target("kalm_rerank")
    set_kind("static")
    set_languages("gnu99")
    set_optimize("fastest")
    add_files("kalm_rerank.c")
    add_includedirs("..", {public = true})
    add_headerfiles("../kalm_rerank.h")
    if is_plat("linux", "bsd", "android", "cross") then
        add_syslinks("m", "pthread", {public = true})
    end
target_end()
