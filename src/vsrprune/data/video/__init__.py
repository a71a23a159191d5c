"""Videos: decoding, colours, sound and subtitles, writing."""
