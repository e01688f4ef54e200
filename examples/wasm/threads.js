/* Linked into the builds with threads (emcc --js-library): how the module reaches kalm.mjs. */
mergeInto(LibraryManager.library, {
    kalm_js_progress: function (done, total) {
        return Module['kalmProgress'](done, total)
    }
})
