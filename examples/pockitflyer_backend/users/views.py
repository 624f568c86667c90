"""The page of a person's own picture, and the way in."""

from http import HTTPStatus

from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.decorators import login_required
from django.contrib.auth.forms import UserCreationForm
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse_lazy
from django.views.decorators.http import require_http_methods, require_POST
from django.views.generic import FormView
from image_processor.errors import ImageProcessorError

from users.forms import PictureForm
from users.models import Profile
from users.services.image_storage import set_profile_picture


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def profile(request: HttpRequest) -> HttpResponse:
    """See your picture; send another."""
    if request.method != "POST":
        return _page(request, PictureForm())
    form = PictureForm(request.POST, request.FILES)
    if not form.is_valid():
        return _page(request, form, HTTPStatus.BAD_REQUEST)
    try:
        set_profile_picture(request.user, form.cleaned_data["picture"], request)
    except ValidationError as error:
        form.add_error("picture", error)
        return _page(request, form, HTTPStatus.BAD_REQUEST)
    except ImageProcessorError:
        form.add_error(None, "Your picture could not be stored for the moment. Please try again in a minute.")
        return _page(request, form, HTTPStatus.SERVICE_UNAVAILABLE)
    messages.success(request, "This is your new picture.")
    return redirect("profile")


@login_required
@require_POST
def remove_picture(request: HttpRequest) -> HttpResponse:
    """Have no picture; its files go once that is committed."""
    mine = Profile.objects.filter(user=request.user).first()
    if mine:
        mine.picture.delete()
    return redirect("profile")


class SignUp(FormView):
    """A name and a password, and you are in."""

    template_name = "registration/signup.html"
    form_class = UserCreationForm
    success_url = reverse_lazy("profile")

    def form_valid(self, form: UserCreationForm) -> HttpResponse:
        """The new person is logged in at once."""
        login(self.request, form.save())
        return super().form_valid(form)


def _page(request: HttpRequest, form: PictureForm, status: HTTPStatus = HTTPStatus.OK) -> HttpResponse:
    mine, _ = Profile.objects.get_or_create(user=request.user)
    return render(request, "users/profile.html", {"profile": mine, "form": form}, status=status)
