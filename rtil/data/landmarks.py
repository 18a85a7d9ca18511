"""Finding the eyes and the mouth of the face in a picture, by dlib (the extra ``align``).

The detector is dlib's for faces seen from the front (histograms of gradients: faces of about 80 pixels or more), the
points are those of its model of 68 landmarks (Kazemi and Sullivan 2014), whose weights come with a package. The
package calls them CC0, but dlib's author excludes commercial use of this model: it was trained on 300-W.
"""

import threading
from importlib.util import find_spec
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from rtil.data.alignment import Framing, Landmarks, Square, face_square
from rtil.errors import RunError, UserError

DETECTION_PIXELS, MOST_DETECTION_PIXELS = 640, 2560
ENLARGEMENTS = (1, 2, 4)
"""Of the copy that is searched: larger ones only where the first shows no face."""
FACE_PIXELS = 400
"""Side of a face where its landmarks are found: dlib rounds them to pixels."""
LEFT_EYE, RIGHT_EYE = slice(36, 42), slice(42, 48)
LEFT_MOUTH, RIGHT_MOUTH = 48, 54


class FaceAligner:
    """Finds the square around the face in a picture.

    Args:
        framing: Which square: that of ffhq or of celeba.

    Attributes:
        several: How many faces were found, by name of pictures with more than one; the largest is taken.

    Raises:
        UserError: The packages of the extra ``align`` are missing.
    """

    def __init__(self, framing: Framing) -> None:
        if find_spec("dlib") is None or find_spec("face_recognition_models") is None:
            raise UserError("--align finds faces with packages that are missing: pip install 'rtil[align]'")
        import dlib
        import face_recognition_models

        self.framing = framing
        self.several: dict[str, int] = {}
        self._rectangle: Any = dlib.rectangle
        self._detector: Any = dlib.get_frontal_face_detector()
        self._predictor: Any = dlib.shape_predictor(face_recognition_models.pose_predictor_model_location())
        self._one_at_a_time = threading.Lock()  # the detector keeps what it works on in itself

    def square(self, picture: Tensor, name: str) -> Square:
        """Return the square around the largest face of an upright picture, uint8 [3, H, W].

        Args:
            picture: With or without faces.
            name: What error messages call the picture.

        Raises:
            RunError: There is no face.
        """
        return face_square(self.framing, self.landmarks(picture, name))

    def landmarks(self, picture: Tensor, name: str) -> Landmarks:
        """Return the eyes and corners of the mouth of the largest face; see :meth:`square`."""
        image = Image.fromarray(np.ascontiguousarray(picture.permute(1, 2, 0).numpy()))
        with self._one_at_a_time:
            boxes = self._boxes(image)
            if not boxes:
                raise RunError(f"no face was found in {name!r}: crop it closer to the face, or leave --align away")
            if len(boxes) > 1:
                self.several[name] = len(boxes)
            points = self._points(image, max(boxes, key=lambda box: (box[2] - box[0]) * (box[3] - box[1])))
        return Landmarks(
            complex(points[LEFT_EYE].mean()),
            complex(points[RIGHT_EYE].mean()),
            complex(points[LEFT_MOUTH]),
            complex(points[RIGHT_MOUTH]),
        )

    def _boxes(self, image: Image.Image) -> list[tuple[float, float, float, float]]:
        """Return the faces as (left, top, right, bottom) in pixels."""
        first = min(1.0, DETECTION_PIXELS / max(image.size))
        for enlargement in ENLARGEMENTS:
            scale = first * enlargement
            if scale * max(image.size) > MOST_DETECTION_PIXELS:
                break
            width, height = (max(1, round(scale * size)) for size in image.size)
            found = self._detector(np.asarray(image.resize((width, height), Image.Resampling.LANCZOS)), 0)
            if len(found):
                sx, sy = image.width / width, image.height / height
                return [(sx * r.left(), sy * r.top(), sx * (r.right() + 1), sy * (r.bottom() + 1)) for r in found]
        return []

    def _points(self, image: Image.Image, box: tuple[float, float, float, float]) -> np.ndarray:
        """Return the 68 landmarks of a face, complex, in pixels."""
        left, top, right, bottom = box
        width, height = right - left, bottom - top
        around = (
            max(0, int(left - width / 2)),
            max(0, int(top - height / 2)),
            min(image.width, int(right + width / 2) + 1),
            min(image.height, int(bottom + height / 2) + 1),
        )
        scale = FACE_PIXELS / width
        size = (round(scale * (around[2] - around[0])), round(scale * (around[3] - around[1])))
        sx, sy = size[0] / (around[2] - around[0]), size[1] / (around[3] - around[1])
        face = image.resize(size, Image.Resampling.LANCZOS, box=around)
        sides = (sx * (left - around[0]), sy * (top - around[1]), sx * (right - around[0]), sy * (bottom - around[1]))
        found = self._predictor(np.asarray(face), self._rectangle(*(round(side) for side in sides)))
        return np.array([(p.x + 0.5) / sx + around[0] + 1j * ((p.y + 0.5) / sy + around[1]) for p in found.parts()])
