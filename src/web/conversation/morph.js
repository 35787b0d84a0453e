// Makes nodes those of another tree, touching only what is different.

/**
 * Puts `wanted` in place of `there`, which are the last children of `parent`.
 * @param {Node} parent
 * @param {ChildNode[]} there
 * @param {ChildNode[]} wanted
 * @returns {ChildNode[]} what stands there now
 */
export function morph(parent, there, wanted) {
    const now = wanted.map((node, at) => {
        const old = there[at];
        if (!old) return parent.appendChild(node);
        return become(old, node);
    });
    for (const old of there.slice(wanted.length)) old.remove();
    return now;
}

/**
 * @param {ChildNode} old
 * @param {ChildNode} wanted
 * @returns {ChildNode}
 */
function become(old, wanted) {
    if (old.nodeName !== wanted.nodeName || !sameAttributes(old, wanted)) {
        old.replaceWith(wanted);
        return wanted;
    }
    if (old instanceof Text && wanted instanceof Text) {
        // What is appended leaves a selection as it is.
        if (wanted.data.startsWith(old.data)) old.appendData(wanted.data.slice(old.data.length));
        else old.data = wanted.data;
    } else morph(old, [...old.childNodes], [...wanted.childNodes]);
    return old;
}

/**
 * @param {Node} old
 * @param {Node} wanted
 */
function sameAttributes(old, wanted) {
    if (!(old instanceof Element && wanted instanceof Element)) return true;
    const names = wanted.getAttributeNames();
    return names.length === old.getAttributeNames().length
        && names.every((name) => old.getAttribute(name) === wanted.getAttribute(name));
}
