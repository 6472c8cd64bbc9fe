/** Under this name the search index follows the feed. */
export const followerName = 'search';
