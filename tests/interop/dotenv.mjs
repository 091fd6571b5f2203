// node's dotenv, asked by tests/configs/test_formats_readers.py what files say.
import dotenv from 'dotenv';
import { answer } from './lines.mjs';

answer({
  parse({ files }) {
    return files.map((file) => dotenv.parse(file));
  },
});
